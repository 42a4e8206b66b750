"""A captioner that somebody else has trained, then the same way as those that are trained here."""

from captionloop.pipelines import evaluation, registration
from captionloop.pipelines.pretrained import nodes
from kedro.pipeline import Node, Pipeline

MODEL = "pretrained"
FEATURES = f"{MODEL}.features"
_PARAMETERS = f"params:{MODEL}"


def create_pipeline(**_: object) -> Pipeline:
    """images, training tables, raw_photos -> the captioner, its evaluation beside others', its version."""
    opened = Pipeline(
        [
            Node(
                nodes.open_captioner,
                inputs=[
                    "training_images",
                    "training_captions",
                    "concepts",
                    "raw_photos",
                    _PARAMETERS,
                    f"{MODEL}.tower_checkpoints",
                    "params:language",
                ],
                outputs=f"{MODEL}.origin",
                name="open_captioner",
            ),
            Node(
                nodes.cache_features,
                inputs=["images", "raw_photos", f"{MODEL}.origin", "feature_store", "params:feature_caching"],
                outputs=[FEATURES, f"{MODEL}.caching_report"],
                name="cache_features",
            ),
            Node(
                nodes.finetune_captioner,
                inputs=[
                    "training_images",
                    "training_captions",
                    FEATURES,
                    f"{MODEL}.origin",
                    _PARAMETERS,
                    f"{MODEL}.checkpoints",
                ],
                outputs=[f"{MODEL}.captioner", f"{MODEL}.curves", f"{MODEL}.training_metrics"],
                name="finetune_captioner",
            ),
            Node(
                nodes.find_concepts,
                inputs=[
                    "training_images",
                    "training_captions",
                    "params:encoder_adaptation",
                    "params:language",
                ],
                outputs="concepts",
                name="find_concepts",
            ),
        ]
    )
    evaluated = evaluation.create_pipeline(
        models=(MODEL,), exhibited=MODEL, features=FEATURES, beside="other_hypotheses"
    )
    registered = registration.create_pipeline(models=(MODEL,), features=FEATURES)
    made = opened + evaluated + registered
    # What the other pipelines make as well has a name of its own here; where it lies, the catalog says.
    own = {name: f"{MODEL}.{name}" for name in made.all_outputs() if not name.startswith(f"{MODEL}.")}
    return Pipeline(made, outputs=own)
