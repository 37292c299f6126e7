"""A trial to its documents: `model-card.md`, `study-sheet.md`, and `mistakes.html` where it is asked for."""

from hemo.config.document import DocumentConfig
from hemo.output_lock import output_lock
from hemo.reporting.documents.mistakes import mistakes_page
from hemo.reporting.documents.model_card import model_card
from hemo.reporting.documents.study import read_study
from hemo.reporting.documents.study_sheet import study_sheet
from hemo.storage import join, write_bytes

MODEL_CARD, STUDY_SHEET, MISTAKES = "model-card.md", "study-sheet.md", "mistakes.html"


def write_documents(config: DocumentConfig) -> str:
    """Write the documents of a trial below `config.out`, from records and cards.

    Returns:
        Path of the model card.

    Raises:
        SourceError: If records, predictions or images cannot be read.
        ConfigError: If there is no such trial, or images may not be shown.
        OutputError: If `config.out` cannot be written, or another run is writing there.
    """
    with output_lock(config.out):
        study = read_study(config)
        documents = {MODEL_CARD: model_card(study), STUDY_SHEET: study_sheet(study)}
        if config.mistakes and config.training_set:
            shown = config.mistakes, config.thumbnail_px
            documents[MISTAKES] = mistakes_page(study, config.records, config.training_set, *shown)
        for name, text in documents.items():
            write_bytes(join(config.out, name), text.encode())
    return join(config.out, MODEL_CARD)
