"""The examples that need other people's libraries: what they print holds against their tables."""

from itertools import pairwise
from pathlib import Path

import pytest
from scripts import run_here, said, values_of
from thirdparty.scenario import library

from lightning_infoplane import History
from lightning_infoplane.measurement.rows import Pair


def test_transformers_are_watched_with_nothing_said_of_their_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library("transformers.models.bert.modeling_bert")
    library("transformers.models.convnext.modeling_convnext")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    printed, logged = run_here("huggingface.py", "--epochs", "3", "--root", str(tmp_path))
    pictures, text = (line for line in logged if "X: " in line)
    assert "X: pixel_values (512, 1, 8, 8); Y: labels (512,), 10 classes" in pictures
    assert "embedding layer 'model.bert.embeddings.word_embeddings'" in text
    assert "input_ids (512, 16); Y: labels (512,), 4 classes" in text
    assert "forward(input_ids=…, attention_mask=…)" in text
    ends = {
        "pictures": ("model.convnext.embeddings.patch_embeddings", "model.convnext.encoder.stages.1.layers.1.dwconv"),
        "text": ("model.bert.embeddings", "model.classifier"),
    }
    for name, (first, last) in ends.items():
        value = values_of(tmp_path / name / "lightning_logs" / "version_0" / "infoplane.csv")
        for what, key in (("input", "AMI_XT"), ("label", "AMI_TY")):
            along = said(value[3, first, key], value[3, last, key])
            assert f"{name}: what is shared with the {what} {along} along them.\n" in printed
        by_training = said(value[0, last, "AMI_TY"], value[3, last, "AMI_TY"])
        assert f"{name}: in the last one the label's part {by_training} by training.\n" in printed


def test_layers_of_bert_are_chains_for_no_token_is_left_out(tmp_path: Path) -> None:
    library("transformers.models.bert.modeling_bert")
    library("transformers.models.convnext.modeling_convnext")
    run_here("huggingface.py", "--epochs", "1", "--root", str(tmp_path))
    places = {row.place for row in History.load(tmp_path / "text" / "lightning_logs" / "version_0" / "infoplane.csv")}
    layers = ["embeddings", "encoder.layer.0", "encoder.layer.1", "encoder.layer.2", "pooler"]
    names = [*(f"model.bert.{layer}" for layer in layers), "model.classifier"]
    assert {place for place in places if isinstance(place, Pair)} == {Pair(*pair) for pair in pairwise(names)}


def test_a_graph_classifier_says_what_it_keeps_of_features_and_of_edges(tmp_path: Path) -> None:
    library("torch_geometric.nn")
    library("torch_geometric.loader")
    printed, logged = run_here("graph.py", "--epochs", "3", "--root", str(tmp_path))
    assert "X: x (384, 4); Y: y (384,), 3 classes" in next(line for line in logged if "X: " in line)
    value = values_of(tmp_path / "lightning_logs" / "version_0" / "infoplane.csv")
    for what, key in (("features", "AMI_XT"), ("class", "AMI_TY")):
        along = said(value[3, "conv1", key], value[3, "head", key])
        assert f"What is shared with the {what} {along} on the way from conv1 to head.\n" in printed
        assert f"In the head it {said(value[0, 'head', key], value[3, 'head', key])} by training.\n" in printed
    assert value[3, "conv1", "AMI_XT"] > value[3, "conv2", "AMI_XT"] > value[3, "head", "AMI_XT"]
