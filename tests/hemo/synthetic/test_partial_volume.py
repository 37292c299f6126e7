"""Slices of the synthetic corpus that only their neighbours tell apart from blood."""

from dataclasses import replace

import numpy as np

from hemo.synthetic.plan import SlicePlan, plan_corpus
from hemo.synthetic.slice_file import render


def _plans(fraction: float) -> tuple[SlicePlan, ...]:
    return plan_corpus(slices=300, seed=3, positive_fraction=0.2, faults=False, partial_volume_fraction=fraction)


def test_bone_is_cut_in_slices_without_blood_whose_neighbours_have_neither() -> None:
    plans = _plans(0.1)
    cut = [at for at, plan in enumerate(plans) if plan.scene.partial_volume]
    assert len(cut) == 30
    for at in cut:
        near = [plans[other] for other in (at - 1, at + 1) if 0 <= other < 300]
        same = [plan for plan in near if plan.identity.study == plans[at].identity.study]
        assert not plans[at].scene.lesions
        assert not any(plan.scene.lesions or plan.scene.partial_volume for plan in same)
        assert {layer.subtype for layer in plans[at].scene.partial_volume} <= {"epidural", "subdural"}


def test_nothing_else_of_the_corpus_depends_on_it() -> None:
    without, plans = _plans(0), _plans(0.1)
    assert [_rest(plan) for plan in plans] == [_rest(plan) for plan in without]


def _rest(plan: SlicePlan) -> tuple[object, ...]:
    scene = plan.scene
    return plan.identity, scene.pose, scene.level, scene.lesions, scene.noise_seed


def test_cut_bone_is_as_dense_as_blood_and_has_no_label() -> None:
    scene = next(plan.scene for plan in _plans(0.1) if plan.scene.partial_volume)
    shown, labels = render(scene)
    plain, _ = render(replace(scene, partial_volume=()))
    changed = shown.astype(int) - plain
    assert labels == {}
    assert np.count_nonzero(changed > 10) > 160  # the smallest lesion that has a label
