"""Applies the gate, its anchor and its guardrails to a candidate on the frozen evaluation set."""

from collections.abc import Callable, Mapping

from captionloop.corpus.scenes.layout import Facts
from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.evaluation.hallucination import hallucination_counter
from captionloop.evaluation.subgroups import subgroups
from captionloop.registry.anchor import count_decision, decide_on_anchor, with_note
from captionloop.registry.gate import decide
from captionloop.registry.gate_decision import GateDecision, GateParameters
from captionloop.registry.guardrails import decide_on_groups, decide_on_hallucinations, decide_on_photos
from captionloop.registry.registration import ChampionComparison, RegistrationParameters
from captionloop.registry.scored_captions import ScoredCaptions


def apply_gate(  # noqa: PLR0917 - all that is known
    candidate: ScoredCaptions,
    champion: ScoredCaptions | None,
    comparison: ChampionComparison,
    photos: EvaluationSet,
    facts: Mapping[str, Facts],
    parameters: GateParameters,
) -> GateDecision:
    """The decision against the champion, the anchor and every guardrail; of a first version, by the floors.

    Args:
        candidate: how it did on the evaluation set.
        champion: how the champion did; None where there is none.
        comparison: the champion's and the anchor's captions, and the decisions made on the set so far.
        photos: the evaluation set.
        facts: of drawn scenes, by the name of the photo; empty where photos are not drawn.
        parameters: margin, guardrails and budget.
    """
    decision = decide(candidate, champion, parameters)
    if champion is None:
        return count_decision(decision, comparison.decisions, parameters)
    decision = with_note(decision, comparison.anchor_note)
    if comparison.anchor is not None:
        name = f"version {comparison.anchor}"
        anchor = ScoredCaptions.by_cider(
            name, comparison.anchor_captions, photos.references, photos.reference_language
        )
        decision = decide_on_anchor(decision, candidate, champion, anchor, comparison.anchor, parameters)
    known = {
        image_id: facts[uri]
        for image_id, uri in zip(photos.image_ids, photos.uris, strict=True)
        if uri in facts
    }
    counter = hallucination_counter(photos.references, known, photos.reference_language)
    decision = decide_on_hallucinations(decision, candidate, champion, counter, parameters)
    kinds = subgroups(
        champion.scores.image_ids,
        photos.references,
        known,
        parameters.guardrails.group_photos,
        photos.reference_language,
    )
    decision = decide_on_groups(decision, candidate, champion, kinds, parameters)
    return count_decision(decision, comparison.decisions, parameters)


def apply_image_text_guardrail(  # noqa: PLR0917 - all that is known
    decision: GateDecision,
    candidate: ScoredCaptions,
    champion: ScoredCaptions | None,
    photos: EvaluationSet,
    read: Callable[[str], bytes],
    parameters: RegistrationParameters,
) -> GateDecision:
    """The decision, with how well captions go with their photos; as it was where no model is named that tells
    that, or there is no champion. `read` gives a photo's bytes by its uri.
    """
    if parameters.image_text is None or champion is None:
        return decision
    from captionloop.evaluation.image_text_score import ImageTextScorer

    uris = dict(zip(photos.image_ids, photos.uris, strict=True))
    scores = ImageTextScorer(parameters.image_text).of_photos(
        uris, read, {"candidate": candidate.captions, "champion": champion.captions}
    )
    return decide_on_photos(decision, scores["candidate"], scores["champion"], parameters.gate)
