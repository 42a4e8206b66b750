"""Scores every model on one split and shows, in tables and pictures, what it can and cannot do."""

from collections.abc import Sequence

from captionloop.pipelines.evaluation import nodes
from kedro.pipeline import Node, Pipeline

_TABLES = ["images", "captions"]
_PARAMETERS = "params:evaluation"
_SHARED = ("evaluation_photos", "calibration_photos", "raw_photos")


def create_pipeline(
    models: Sequence[str],
    exhibited: str,
    with_curves: Sequence[str] = (),
    features: str = "features",
    beside: str | None = None,
    **_: object,
) -> Pipeline:
    """Each model captions the photos; then they are scored, compared and drawn together.

    `exhibited` is the one whose attention the gallery shows; `with_curves` are those that were trained
    themselves, and not made of others. `beside` is the dataset of what others have said of these photos
    before, which joins the table.
    """
    together = _of_all(models, exhibited, with_curves, features, beside)
    before = sum((_of_one(model, features) for model in models), start=together)
    return sum((_card(model) for model in models), start=before)


def _of_one(model: str, features: str) -> Pipeline:
    nodes_of_one = [
        Node(
            nodes.predict_captions,
            inputs=["captioner", "evaluation_photos", "features", _PARAMETERS],
            outputs="hypotheses",
            name="predict_captions",
        ),
        Node(
            nodes.calibrate_words,
            inputs=["captioner", "hypotheses", "calibration_photos", "features", _PARAMETERS],
            outputs="calibration",
            name="calibrate_words",
        ),
        Node(
            nodes.measure,
            inputs=["captioner", "evaluation_photos", "raw_photos", "features", _PARAMETERS],
            outputs="latency",
            name="measure_latency",
        ),
    ]
    shared = {name: name for name in _SHARED} | {"features": features}
    return Pipeline(nodes_of_one, namespace=model, inputs=shared, parameters={_PARAMETERS})


def _card(model: str) -> Pipeline:
    # Not in the model's namespace: it comes after the scores, which come after every namespace.
    inputs = ["captioner", "calibration", "latency", "hypotheses"]
    node = Node(
        nodes.write_card,
        inputs=[*(f"{model}.{name}" for name in inputs), "evaluation", "evaluation_photos", "training_data"],
        outputs=f"{model}.model_card",
        name=f"write_model_card_{model}",
    )
    return Pipeline([node])


def _of_all(
    models: Sequence[str], exhibited: str, with_curves: Sequence[str], features: str, beside: str | None
) -> Pipeline:
    hypotheses = [f"{model}.hypotheses" for model in models]
    drawn = {model: f"{model}.curves" for model in with_curves}
    return Pipeline(
        [
            Node(
                nodes.choose_photos,
                inputs=[*_TABLES, _PARAMETERS, "params:language"],
                outputs=["evaluation_photos", "calibration_photos"],
                name="choose_evaluation_photos",
            ),
            Node(
                nodes.describe_training_data,
                inputs=[*_TABLES, _PARAMETERS, "params:language"],
                outputs="training_data",
                name="describe_training_data",
            ),
            Node(
                nodes.compare_with_photos,
                inputs=["evaluation_photos", "raw_photos", _PARAMETERS, *hypotheses],
                outputs="image_text_scores",
                name="compare_with_photos",
            ),
            Node(
                nodes.score_captions if beside is None else nodes.score_beside_others,
                inputs=[
                    "evaluation_photos",
                    *_TABLES,
                    _PARAMETERS,
                    "image_text_scores",
                    *([] if beside is None else [beside]),
                    *hypotheses,
                ],
                outputs=["evaluation", "caption_scores", "evaluation_metrics"],
                name="score_captions",
            ),
            Node(
                nodes.write_table,
                inputs=["evaluation", _PARAMETERS],
                outputs="evaluation_table",
                name="write_evaluation_table",
            ),
            Node(
                nodes.publish,
                inputs=["evaluation", "evaluation_table"],
                outputs=["latest_evaluation", "latest_evaluation_table"],
                name="publish_evaluation",
            ),
            Node(
                nodes.draw_reliability,
                inputs=[f"{model}.calibration" for model in models],
                outputs="reliability",
                name="draw_reliability",
            ),
            *(
                [
                    Node(
                        nodes.draw_training_curves,
                        inputs=drawn,
                        outputs="training_curves",
                        name="draw_training_curves",
                    )
                ]
                if drawn
                else []
            ),
            Node(
                nodes.draw_quality_and_latency,
                inputs=["evaluation", *(f"{model}.latency" for model in models)],
                outputs="quality_and_latency",
                name="draw_quality_and_latency",
            ),
            Node(
                nodes.draw_gallery,
                inputs=[
                    f"{exhibited}.captioner",
                    f"{exhibited}.calibration",
                    f"{exhibited}.hypotheses",
                    "caption_scores",
                    "evaluation_photos",
                    "raw_photos",
                    features,
                    _PARAMETERS,
                ],
                outputs="gallery",
                name="draw_gallery",
            ),
        ]
    )
