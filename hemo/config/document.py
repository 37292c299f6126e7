"""Config of `document`: a trial, and what only the authors of a study can state."""

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from hemo.config.types import Config, Groups, Location


class Statements(Config):
    """What no record can know. Each is a text that the documents quote; what is empty stays `not recorded` there."""

    title: str = Field("", description="title of the study")
    authors: str = Field("", description="authors, and whom to contact")
    citation: str = Field("", description="how to cite model and study")
    model_license: str = Field("", description="licence of the weights, best as Hugging Face spells it: apache-2.0")
    background: str = Field("", description="clinical background, existing models, why another one")
    intended_use: str = Field("", description="purpose, and role in the care pathway")
    intended_users: str = Field("", description="who uses the model, with what training")
    out_of_scope: str = Field("", description="uses that the model is not made for")
    target_population: str = Field("", description="patients the model is meant for")
    objectives: str = Field("", description="aims and hypotheses")
    study_design: str = Field("", description="prospective or retrospective; why")
    study_goal: str = Field("", description="such as model creation, exploration, feasibility, non-inferiority")
    data_source: str = Field("", description="where the images come from, and why these")
    data_collection: str = Field("", description="routine care, collected for the study, or an open repository")
    setting: str = Field("", description="kind, number and location of centres")
    dates: str = Field("", description="first and last examination; end of follow-up")
    eligibility: str = Field("", description="criteria of inclusion and exclusion, of patients and of images")
    recruitment: str = Field("", description="on what basis patients were found: symptoms, results, a registry")
    series: str = Field("", description="consecutive, random or convenience series")
    treatments: str = Field("", description="treatments received, and how they were handled")
    deidentification: str = Field("", description="how identifiers were removed before hemo read the files")
    missing_data: str = Field("", description="why data are missing, and what was done beyond leaving them out")
    acquisition: str = Field("", description="devices (manufacturer, model) and protocols")
    reference_standard: str = Field("", description="how labels were obtained, and their cut-offs")
    reference_rationale: str = Field("", description="why this reference standard")
    annotators: str = Field("", description="who labelled: number, background, experience; tools")
    test_annotation: str = Field("", description="how the images of test were labelled, if otherwise")
    annotator_agreement: str = Field("", description="agreement between and within annotators")
    blinding: str = Field("", description="what annotators knew: clinical data, output of a model")
    time_interval: str = Field("", description="time and treatments between image and reference standard")
    sample_size: str = Field("", description="how the number of patients was determined")
    demographics: str = Field("", description="age, sex and other characteristics of patients in each split")
    severity: str = Field("", description="distribution of severity in patients with the finding")
    alternatives: str = Field("", description="distribution of other diagnoses in patients without the finding")
    representativeness: str = Field("", description="whether images and prevalence are those of the intended use")
    inequalities: str = Field("", description="known inequalities of health between groups")
    fairness: str = Field("", description="what was done about fairness, and what was found")
    explainability: str = Field("", description="how predictions were explained, and how that was checked")
    external_differences: str = Field("", description="how external data differ from those of training")
    input_quality: str = Field("", description="what to do with poor or missing images in use")
    adverse_events: str = Field("", description="of taking the images or of the reference standard")
    interpretation: str = Field("", description="what the results mean, beside those of others")
    limitations: str = Field("", description="bias, uncertainty, generalisability")
    implications: str = Field("", description="for practice, and next steps of research")
    ethical_considerations: str = Field("", description="risks and harms of the use of the model")
    ethics: str = Field("", description="approval by a committee, consent or waiver")
    registration: str = Field("", description="registry and number")
    protocol: str = Field("", description="where the protocol is")
    funding: str = Field("", description="sources, and the role of funders")
    conflicts: str = Field("", description="conflicts of interest and commercial interests")
    data_availability: str = Field("", description="whether and how the data can be had")
    code_availability: str = Field("", description="whether and how code and weights can be had")
    public_involvement: str = Field("", description="involvement of patients and the public")


class DocumentConfig(Config):
    """Configuration of the `document` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("records", "trial", "training_set"),
        "output": ("out",),
        "gallery of mistakes": ("mistakes", "thumbnail_px"),
        "statistics": ("bootstrap_samples", "seed"),
        "statements of the authors": ("statements",),
    }

    records: Location = Field(description="folder of records: the `out` of `train` or `tune`")
    trial: str = Field("", description="name or digest of the trial; empty: the best one, as `report` highlights it")
    training_set: Literal[""] | Location = Field("", description="training set of the trial; for `mistakes`")
    out: Location = Field(description="folder to write model-card.md and study-sheet.md to")
    mistakes: NonNegativeInt = Field(
        0,
        description="wrong predictions on test to show in mistakes.html, the most confident ones; only where ids are "
        "public",
    )
    thumbnail_px: PositiveInt = Field(128, ge=32, le=512, description="longest side of an image in mistakes.html")
    bootstrap_samples: int = Field(1000, ge=10, description="bootstrap samples of patients")
    seed: NonNegativeInt = Field(0, description="random seed of the bootstrap")
    statements: Statements = Statements()

    @model_validator(mode="after")
    def _shows_images_of_a_set(self) -> Self:
        if bool(self.mistakes) != bool(self.training_set):
            raise ValueError("mistakes shows images of a training set: give both mistakes and training_set, or neither")
        return self
