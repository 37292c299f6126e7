from collections import Counter, defaultdict

import numpy as np
import pytest

from hemo.synthetic.hemorrhage import SUBTYPES
from hemo.synthetic.plan import CORRUPTING, FAULTS, TWICE_LABELLED, plan_corpus
from hemo.synthetic.scanner import FORMATS, WRAPPED_FORMAT


def planned(slices=600, seed=0, positive_fraction=0.4, faults=True):
    return plan_corpus(slices=slices, seed=seed, positive_fraction=positive_fraction, faults=faults)


def visible(plan):
    """All that can be compared of a plan with `==`: everything but the waves of the head."""
    head = plan.scene.head
    scene = (plan.scene.pose, plan.scene.scanner, plan.scene.level, plan.scene.noise_seed)
    return plan.identity, scene, head.half_width_mm, head.folds.phases_rad.tobytes(), plan.fault, plan.labelled_twice


def test_the_same_seed_plans_the_same_corpus_and_another_does_not():
    first, again, other = planned(), planned(), planned(seed=1)
    assert [visible(plan) for plan in first] == [visible(plan) for plan in again]
    assert [plan.scene.lesions for plan in first] == [plan.scene.lesions for plan in again]
    assert {plan.identity.image for plan in first}.isdisjoint(plan.identity.image for plan in other)


@pytest.mark.parametrize("slices", [20, 21, 200, 600])
def test_every_slice_is_planned_once_and_every_fault_occurs(slices):
    plans = planned(slices)
    assert len({plan.identity.image for plan in plans}) == len(plans) == slices
    assert Counter(plan.fault for plan in plans if plan.fault) == dict.fromkeys(FAULTS, 1)
    assert sum(plan.labelled_twice for plan in plans) == TWICE_LABELLED
    assert any(plan.scene.scanner.pixel_format == WRAPPED_FORMAT for plan in plans)


def test_one_slice_is_shown_under_two_patients():
    shown = defaultdict(list)
    for plan in planned():
        shown[plan.scene.noise_seed].append(plan.identity)
    twins = [identities for identities in shown.values() if len(identities) > 1]
    assert len(twins) == 1
    assert len({identity.patient for identity in twins[0]}) == len({identity.study for identity in twins[0]}) == 2


def test_without_faults_there_are_none():
    plans = planned(faults=False)
    assert not any(plan.fault or plan.labelled_twice for plan in plans)
    assert {plan.scene.scanner.pixel_format for plan in plans} == set(FORMATS)
    assert len({plan.scene.noise_seed for plan in plans}) == 600


@pytest.mark.parametrize("faults", [True, False])
def test_a_fraction_of_the_sound_slices_is_corrupted_and_keeps_its_blood(faults):
    sound = planned(faults=faults)
    corrupted = plan_corpus(slices=600, seed=0, positive_fraction=0.4, faults=faults, corrupted_fraction=0.1)
    changed = [(before, after) for before, after in zip(sound, corrupted, strict=True) if before.fault != after.fault]
    assert Counter(after.fault for _, after in changed) == dict.fromkeys(CORRUPTING, 30)
    assert not any(before.fault for before, _ in changed)
    drawn = Counter(plan.scene.noise_seed for plan in sound)
    assert all(drawn[before.scene.noise_seed] == 1 for before, _ in changed)  # twins stay alike
    assert [plan.scene.lesions for plan in corrupted] == [plan.scene.lesions for plan in sound]
    assert 0.25 < np.mean([bool(after.scene.lesions) for _, after in changed]) < 0.6


def test_studies_are_runs_of_slices_and_some_patients_have_several():
    plans = planned(faults=False)
    studies = defaultdict(list)
    for plan in plans:
        studies[plan.identity.study].append(plan)
    sizes = [len(slices) for slices in studies.values()]
    assert max(sizes) == 13
    assert sorted(sizes)[1] >= 8  # the last one may be cut short
    for slices in studies.values():
        heights = [plan.identity.position_mm[2] for plan in slices]
        assert heights == sorted(heights)
        assert len({plan.identity.patient for plan in slices}) == 1
    by_patient = Counter(slices[0].identity.patient for slices in studies.values())
    assert 40 <= len(by_patient) < len(studies)


@pytest.mark.parametrize("positive_fraction", [0.0, 0.14, 0.4, 0.6])
def test_the_share_of_positives_is_kept(positive_fraction):
    plans = planned(2000, positive_fraction=positive_fraction, faults=False)
    assert np.mean([bool(plan.scene.lesions) for plan in plans]) == pytest.approx(positive_fraction, abs=0.01)


def test_all_subtypes_are_well_represented_and_some_slices_mix_them():
    mixtures = [{lesion.subtype for lesion in plan.scene.lesions} for plan in planned(2000) if plan.scene.lesions]
    counts = Counter(subtype for mixture in mixtures for subtype in mixture)
    assert min(counts[subtype] for subtype in SUBTYPES) > 0.12 * len(mixtures)
    assert 0.1 < np.mean([len(mixture) > 1 for mixture in mixtures]) < 0.5


def test_only_the_lesions_depend_on_the_number_of_positives():
    """The strongest form of `no artefact`: header, noise, scanner, pose and anatomy are drawn without the label."""
    none, many = planned(positive_fraction=0.0), planned(positive_fraction=0.6)
    assert [visible(plan) for plan in none] == [visible(plan) for plan in many]
    assert not any(plan.scene.lesions for plan in none)
    assert any(plan.scene.lesions for plan in many)


def test_format_holder_and_noise_do_not_separate_the_labels():
    plans = planned(6_000, faults=False)
    positive = np.array([bool(plan.scene.lesions) for plan in plans])
    scanners = [plan.scene.scanner for plan in plans]
    for groups in ([FORMATS.index(scanner.pixel_format) for scanner in scanners], [s.holder for s in scanners]):
        for group in set(groups):
            assert positive[np.array(groups) == group].mean() == pytest.approx(
                0.4, abs=0.12
            )  # three standard errors of 90 studies
    for value in ([scanner.noise_hu for scanner in scanners], [plan.identity.spacing_mm for plan in plans]):
        assert abs(np.corrcoef(value, positive)[0, 1]) < 0.08


def test_no_blood_where_a_fault_would_hide_it():
    for seed in range(5):
        for plan in planned(seed=seed, positive_fraction=0.6):
            assert plan.fault in (None, "truncated") or plan.scene.lesions == ()


def test_the_level_alone_predicts_little():
    """Blood is rarer at base and vertex, as in patients; a model that only sees the level must not look good."""
    plans = planned(6_000, faults=False)
    from_middle = np.array([abs(plan.scene.level - 0.48) for plan in plans])
    positive = np.array([bool(plan.scene.lesions) for plan in plans])
    pairs = from_middle[positive][:, None] < from_middle[~positive][None, :]
    assert 0.5 < pairs.mean() < 0.70  # area under the ROC curve
