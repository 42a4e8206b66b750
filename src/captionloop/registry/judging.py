"""All that the gate asks of a candidate on the frozen evaluation set, one question after the other."""

from collections.abc import Callable, Mapping

from captionloop.corpus.scenes.layout import Facts
from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.evaluation.hallucination import truth_of
from captionloop.evaluation.subgroups import subgroups
from captionloop.registry.anchor import count_decision, decide_on_anchor, noted
from captionloop.registry.gate import decide
from captionloop.registry.gate_decision import GateDecision, GateParameters
from captionloop.registry.guardrails import decide_on_groups, decide_on_hallucinations, decide_on_photos
from captionloop.registry.registration import ChampionComparison, RegistrationParameters
from captionloop.registry.scored_captions import ScoredCaptions


def judge(  # noqa: PLR0917 - all that is known
    candidate: ScoredCaptions,
    champion: ScoredCaptions | None,
    called: ChampionComparison,
    photos: EvaluationSet,
    facts: Mapping[str, Facts],
    parameters: GateParameters,
) -> GateDecision:
    """The decision against the champion, the anchor and every guardrail; of a first version, by the floors.

    Args:
        candidate: how it did on the evaluation set.
        champion: how the champion did; None where there is none.
        called: what the registry knows: the anchor's captions, and how worn the set is.
        photos: the evaluation set.
        facts: of drawn scenes, by the name of the photo; empty where photos are not drawn.
        parameters: margin, guardrails and budget.
    """
    decision = decide(candidate, champion, parameters)
    if champion is None:
        return count_decision(decision, called.decisions, parameters)
    decision = noted(decision, called.anchor_note)
    if called.anchor is not None:
        name = f"version {called.anchor}"
        anchor = ScoredCaptions.by_cider(name, called.anchor_captions, photos.references, photos.spoken)
        decision = decide_on_anchor(decision, candidate, champion, anchor, called.anchor, parameters)
    known = {
        image_id: facts[uri]
        for image_id, uri in zip(photos.image_ids, photos.uris, strict=True)
        if uri in facts
    }
    truth = truth_of(photos.references, known, photos.spoken)
    decision = decide_on_hallucinations(decision, candidate, champion, truth, parameters)
    kinds = subgroups(
        champion.scores.image_ids,
        photos.references,
        known,
        parameters.guardrails.group_photos,
        photos.spoken,
    )
    decision = decide_on_groups(decision, candidate, champion, kinds, parameters)
    return count_decision(decision, called.decisions, parameters)


def judge_by_photos(  # noqa: PLR0917 - all that is known
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
    found = ImageTextScorer(parameters.image_text).of_photos(
        uris, read, {"candidate": candidate.captions, "champion": champion.captions}
    )
    return decide_on_photos(decision, found["candidate"], found["champion"], parameters.gate)
