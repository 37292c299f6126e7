"""Starting weights."""

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import timm
import torch

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError
from hemo.models.backbones import build_backbone
from hemo.models.checkpoint import write_checkpoint
from hemo.models.classifier import ImageClassifier, build_model
from hemo.models.pretrained import check_weights, normalisation_of, starting_model
from hemo.trials.key import weights_fingerprint
from tests.hemo.inference.test_predict import CARD
from tests.hostile import Runs

SHAPE = {"channels": 1, "sides_px": (16, 16), "classes": 1}


def _tiny(weights: str) -> ModelConfig:
    return ModelConfig(backbone="test_resnet", weights=weights)


def test_a_safetensors_file_of_a_backbone_is_loaded(tmp_path: Path) -> None:
    given = build_backbone("test_resnet", 1, (16, 16)).state_dict()
    safetensors.torch.save_file(given, tmp_path / "model.safetensors")
    found = starting_model(_tiny(str(tmp_path / "model.safetensors")), **SHAPE).backbone.state_dict()
    assert all(torch.equal(found[name], value) for name, value in given.items())


@pytest.mark.parametrize(("there", "here"), [(3, 1), (1, 3), (3, 6), (3, 4), (6, 3)])
def test_the_stem_of_a_file_is_adapted_to_the_channels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, there: int, here: int
) -> None:
    """What counts is seen as before: one channel for three alike, or three alike for one."""
    given = build_backbone("test_resnet", there, (16, 16)).eval()
    given.conv1[0].weight.data = given.conv1[0].weight.data[:, :1].repeat(1, there, 1, 1)
    safetensors.torch.save_file(given.state_dict(), tmp_path / "model.safetensors")
    with caplog.at_level(logging.INFO):
        model = starting_model(
            _tiny(str(tmp_path / "model.safetensors")), channels=here, sides_px=(16, 16), classes=1
        ).eval()
    grey = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = given(grey.expand(-1, there, -1, -1))
    torch.testing.assert_close(model.backbone(grey.expand(-1, here, -1, -1)), expected, atol=1e-4, rtol=1e-3)
    assert f"backbone.conv1.0.weight is changed from {there} channels to {here}" in caplog.text


def test_one_channel_has_the_sum_of_three(tmp_path: Path) -> None:
    given = build_backbone("test_resnet", 3, (16, 16)).state_dict()
    torch.save(given, tmp_path / "model.pt")
    found = starting_model(_tiny(str(tmp_path / "model.pt")), **SHAPE).backbone.state_dict()
    torch.testing.assert_close(found["conv1.0.weight"][:, 0], given["conv1.0.weight"].sum(dim=1))
    assert torch.equal(found["layer1.0.conv1.weight"], given["layer1.0.conv1.weight"])


def test_a_pickled_state_dict_of_a_whole_model_is_loaded(tmp_path: Path) -> None:
    given = build_model(_tiny("none"), **SHAPE).state_dict()
    torch.save({"state_dict": given}, tmp_path / "model.pt")
    found = starting_model(_tiny(str(tmp_path / "model.pt")), **SHAPE).state_dict()
    assert all(torch.equal(found[name], value) for name, value in given.items())


@pytest.mark.parametrize(
    ("key", "prefix"), [("model", ""), ("state_dict", "module."), ("state_dict_ema", "_orig_mod.")]
)
def test_what_training_scripts_save_is_unwrapped(tmp_path: Path, key: str, prefix: str) -> None:
    given = build_backbone("test_resnet", 1, (16, 16)).state_dict()
    wrapped = {key: {prefix + name: value for name, value in given.items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "model.pt")
    found = starting_model(_tiny(str(tmp_path / "model.pt")), **SHAPE).backbone.state_dict()
    assert all(torch.equal(found[name], value) for name, value in given.items())


def test_a_file_without_tensors_is_refused_with_its_content(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "args": {"lr": 0.1}}, tmp_path / "model.pt")
    with pytest.raises(ConfigError, match=r"model\.pt holds epoch, args, no state dict of tensors"):
        check_weights(_tiny(str(tmp_path / "model.pt")), 1, (16, 16))


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_weights_that_would_run_code_are_refused_and_nothing_runs(tmp_path: Path, name: str) -> None:
    """Safetensors hold numbers alone, whatever the ending says."""
    mark = tmp_path / "ran"
    torch.save({"state_dict": Runs(mark)}, tmp_path / name)
    with pytest.raises(ConfigError, match=rf"model\.weights: .*{name}"):
        check_weights(_tiny(str(tmp_path / name)), 1, (16, 16))
    assert not mark.exists()


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    given = build_backbone("test_resnet", 1, (16, 16)).state_dict()
    given["conv1.0.weight"][0] = torch.nan
    torch.save(given, tmp_path / "model.pt")
    with pytest.raises(ConfigError, match=r"backbone\.conv1\.0\.weight in .* has NaN or infinite values"):
        check_weights(_tiny(str(tmp_path / "model.pt")), 1, (16, 16))


@pytest.fixture
def record(tmp_path: Path) -> Iterator[tuple[str, ImageClassifier]]:
    """Folder of a record with a checkpoint, and the checkpoint's model."""
    given = build_model(_tiny("none"), **SHAPE)
    card = CARD.model_copy(update={"mean": (0.3,), "std": (0.4,)})
    for folder in (str(tmp_path / "record"), "memory://records/one"):
        write_checkpoint(f"{folder}/checkpoint", given, card)
    yield str(tmp_path / "record"), given
    fsspec.filesystem("memory").rm("/records", recursive=True)


@pytest.mark.parametrize("what", ["", "/checkpoint", "/checkpoint/weights.safetensors"])
def test_a_record_its_checkpoint_or_the_file_in_it_are_a_start(record: tuple[str, ImageClassifier], what: str) -> None:
    """With a checkpoint comes how it scales pixels; its file of weights is that checkpoint."""
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    folder, given = record
    for place in (folder + what, "memory://records/one" + what):
        config = _tiny(place)
        found = starting_model(config, **SHAPE)
        assert torch.equal(found.eval()(images), given.eval()(images))
        assert normalisation_of(config, 1).mean == (0.3,)
        assert normalisation_of(config, 3).mean == (0.5, 0.5, 0.5)


def test_a_checkpoint_is_known_by_its_content_card_included(
    record: tuple[str, ImageClassifier], tmp_path: Path
) -> None:
    """Wherever it lies it is the same; with pixels scaled otherwise it is another."""
    folder, _ = record
    digest = weights_fingerprint(folder)
    assert weights_fingerprint(f"{folder}/checkpoint") == weights_fingerprint("memory://records/one") == digest
    card = tmp_path / "record" / "checkpoint" / "checkpoint.json"
    card.write_text(card.read_text().replace("0.3", "0.2"))
    assert weights_fingerprint(folder) != digest


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no checkpoint.json\); .* its checkpoint folder, or a file"):
        check_weights(_tiny(str(tmp_path)), 1, (16, 16))


def test_what_a_file_does_not_cover_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = build_model(_tiny("none"), **SHAPE).state_dict()
    del given["head.logits.bias"]
    torch.save(given, tmp_path / "model.pt")
    with caplog.at_level(logging.WARNING):
        starting_model(_tiny(str(tmp_path / "model.pt")), **SHAPE)
    assert "does not cover head.logits.bias" in caplog.text


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    torch.save(build_backbone("test_vit", 1, (32, 32)).state_dict(), tmp_path / "vit.pt")
    with pytest.raises(ConfigError, match=r"none of the .* tensors in .*vit\.pt fits the backbone"):
        check_weights(_tiny(str(tmp_path / "vit.pt")), 1, (16, 16))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.weights: /nowhere/model.pt: .*; give `none`, `imagenet`, or such a"):
        check_weights(_tiny("/nowhere/model.pt"), 1, (16, 16))


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(ConfigError, match="is neither safetensors nor a state dict"):
        check_weights(_tiny(str(tmp_path / name)), 1, (16, 16))


def test_imagenet_weights_out_of_reach_name_the_file_and_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    create = timm.create_model
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: unreachable() if k["pretrained"] else create(*a, **k))
    xception = ModelConfig(backbone="Xception", weights="imagenet")
    wanted = rf"https://.*xception-43020ad28\.pth, are not .*; put it into {tmp_path}/hub/checkpoints \(TORCH_HOME\)"
    with pytest.raises(ConfigError, match=rf"{wanted}, .* or give the file as model\.weights, .* s3://BUCKET/FILE"):
        check_weights(xception, 1, (32, 32))


def test_a_hub_that_does_not_respond_gets_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def silent(url: str) -> None:
        asked.append(url)
        raise Exception("no route to host")  # the client's HTTP library has its own errors

    monkeypatch.setattr("hemo.models.pretrained.get_hf_file_metadata", silent)
    monkeypatch.setattr("hemo.models.pretrained.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/hf/hub")
    place = (
        r"`hf download timm/test_resnet.r160_in1k model.safetensors` where it can and copy the folder "
        r"models--timm--test_resnet.r160_in1k to /hf/hub \(HF_HOME\), on a cluster on every node; or give the file"
    )
    with pytest.raises(ConfigError, match=place):
        check_weights(_tiny("imagenet"), 1, (16, 16))
    assert [url.split("timm/")[1] for url in asked] == ["test_resnet.r160_in1k/resolve/main/model.safetensors"]


@pytest.fixture
def put_into_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Put a file where the hub's client keeps ImageNet weights of `tf_efficientnet_lite0`; there is no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def put(file: Path) -> Path:
        folder = tmp_path / "hub" / "models--timm--tf_efficientnet_lite0.in1k"
        cached = folder / "snapshots" / "1" / "model.safetensors"
        for path in (cached, folder / "refs" / "main"):
            path.parent.mkdir(parents=True)
        (folder / "refs" / "main").write_text("1")
        return Path(shutil.copyfile(file, cached))

    return put


LITE0 = ModelConfig(backbone="tf_efficientnet_lite0", weights="imagenet")


def test_the_real_file_in_the_cache_is_imagenet_without_a_network(
    put_into_cache: Callable[[Path], Path], shared_data: Path
) -> None:
    """And it starts from the same weights and normalisation as the file given by its path."""
    file = shared_data / "weights" / "tf_efficientnet_lite0.safetensors"
    with pytest.raises(ConfigError, match=r"are not on this machine and cannot be fetched \(OfflineModeIsEnabled\)"):
        check_weights(LITE0, 3, (64, 64))
    put_into_cache(file)
    shape = {"channels": 3, "sides_px": (64, 64), "classes": 1}
    given = LITE0.model_copy(update={"weights": str(file)})
    cached, by_path = (starting_model(config, **shape).backbone.state_dict() for config in (LITE0, given))
    assert cached["conv_stem.weight"].std() > 0.1  # learned; random ones have 0.08
    assert all(torch.equal(cached[name], value) for name, value in by_path.items())
    assert normalisation_of(LITE0, 3) == normalisation_of(given, 3)
    assert normalisation_of(LITE0, 3).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("content", ["text", "weights of another backbone"])
def test_a_cached_file_of_something_else_is_named(
    put_into_cache: Callable[[Path], Path], tmp_path: Path, content: str
) -> None:
    (tmp_path / "other").write_text("<html>not found</html>")
    if content != "text":
        safetensors.torch.save_file(build_backbone("test_resnet", 3, (16, 16)).state_dict(), tmp_path / "other")
    cached = put_into_cache(tmp_path / "other")
    with pytest.raises(
        ConfigError,
        match=rf"{cached} does not hold ImageNet weights of tf_efficientnet_lite0 .*; remove it, or replace it by "
        "model.safetensors of timm/tf_efficientnet_lite0.in1k",
    ) as refused:
        check_weights(LITE0, 3, (64, 64))
    assert "\n" not in str(refused.value)


def test_cached_weights_are_not_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: create(*a, **{**k, "pretrained": False}))
    monkeypatch.setattr("hemo.models.pretrained.get_hf_file_metadata", lambda _: pytest.fail("the hub was asked"))
    cached = {"pytorch_model.bin": "/cache/pytorch_model.bin"}
    monkeypatch.setattr("hemo.models.pretrained.try_to_load_from_cache", lambda _, name: cached.get(name))
    check_weights(_tiny("imagenet"), 1, (16, 16))


def test_normalisation_follows_the_weights() -> None:
    assert normalisation_of(ModelConfig(backbone="ResNet50", weights="imagenet"), 3).mean == (0.485, 0.456, 0.406)
    assert normalisation_of(ModelConfig(backbone="ResNet50", weights="imagenet"), 2).mean == (0.5, 0.5)
    assert normalisation_of(ModelConfig(backbone="ResNet50"), 3).std == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_file_of_imagenet_weights_scales_pixels_as_imagenet_does(tmp_path: Path, name: str) -> None:
    given, file = build_backbone("Xception", 3, (96, 96)).state_dict(), str(tmp_path / name)
    if name.endswith("pt"):
        torch.save({"state_dict": given}, file)
    else:
        safetensors.torch.save_file(given, file)
    from_file, fetched = (ModelConfig(backbone="Xception", weights=weights) for weights in (file, "imagenet"))
    assert normalisation_of(from_file, 3) == normalisation_of(fetched, 3)
    assert normalisation_of(from_file, 3).mean == (0.5, 0.5, 0.5)
    assert normalisation_of(from_file, 3).std == (0.5, 0.5, 0.5)  # of Inception and its kin, not the plain 0.25
    assert normalisation_of(from_file, 1).std == (0.25,)


def test_a_file_of_a_stack_of_ones_own_scales_pixels_plainly(tmp_path: Path) -> None:
    file = str(tmp_path / "model.safetensors")
    safetensors.torch.save_file(build_backbone("CNN(4,8)", 3, (16, 16)).state_dict(), file)
    assert normalisation_of(ModelConfig(backbone="CNN(4,8)", weights=file), 3).std == (0.25, 0.25, 0.25)


def test_a_file_with_hemos_names_scales_pixels_plainly(tmp_path: Path) -> None:
    """It is of a checkpoint, or of one's own making: how its pixels were scaled is not known."""
    file = str(tmp_path / "model.safetensors")
    weights = build_model(_tiny("none"), **{**SHAPE, "channels": 3}).state_dict()
    safetensors.torch.save_file({name: value.contiguous() for name, value in weights.items()}, file)
    assert normalisation_of(_tiny(file), 3).std == (0.25, 0.25, 0.25) != normalisation_of(_tiny("imagenet"), 3).std


def test_a_checkpoint_of_another_side_is_a_start(record: tuple[str, ImageClassifier]) -> None:
    """Images of 32 px shrunk to the 16 that it was trained on are answered as those were: shrinking has no weights."""
    folder, given = record
    config = _tiny(folder).model_copy(update={"side_px": 16})
    found = starting_model(config, channels=1, sides_px=(32, 32), classes=1).eval()
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    doubled = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(found(doubled), given.eval()(images), atol=1e-5, rtol=1e-5)
