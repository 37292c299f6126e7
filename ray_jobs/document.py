"""Write what a reviewer asks for: a model card, and a study sheet along CLAIM, STARD-AI and TRIPOD+AI.

Reads a folder of records, and what the authors state. Writes `model-card.md` and `study-sheet.md` of one trial to
`out`, with `mistakes` also `mistakes.html`. Needs neither Ray nor a GPU. The last line is the model card.

Example, one of the files in conf/document:
    hemo document --config conf/document/phantom.yaml
    hemo document --records runs/phantom/records --out runs/phantom/documents
"""

from hemo.config.document import DocumentConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(DocumentConfig)
def main(config: DocumentConfig) -> None:
    """Print the location of the model card."""
    import hemo

    print_result(hemo.document.run(config).model_card_file)


if __name__ == "__main__":
    main()
