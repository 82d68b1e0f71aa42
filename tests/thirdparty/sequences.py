"""Text, sound, series: what has a time axis, and often a mask."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from thirdparty.scenario import (
    BATCH,
    CLASSES,
    PROBE,
    SAMPLES,
    Classifier,
    HuggingFace,
    Scenario,
    images,
    labels,
    library,
    loaders,
    tokens,
)
from torch import Tensor, nn
from torch.utils.data import TensorDataset

VOCABULARY = 64
LENGTH = 12

# ---------------------------------------------------------------------------------------------------- transformers


def bert(path: Path) -> Scenario:
    transformers = library("transformers")
    tokenizers = library("tokenizers")

    def collator() -> Any:
        words = tokenizers.models.WordLevel({f"w{i}": i for i in range(VOCABULARY)} | {"[PAD]": VOCABULARY}, "w1")
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer(words), pad_token="[PAD]"
        )
        tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True
        return transformers.DataCollatorWithPadding(tokenizer)

    def sentences(n: int) -> list[dict[str, Any]]:
        return [
            {"label": int(y), "input_ids": ids.tolist(), "attention_mask": [1] * len(ids)}
            for ids, y in zip(tokens(n, LENGTH, VOCABULARY), labels(n), strict=True)
        ]

    def module() -> L.LightningModule:
        config = transformers.BertConfig(
            vocab_size=VOCABULARY + 1,
            pad_token_id=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=LENGTH,
            num_labels=CLASSES,
        )
        return HuggingFace(transformers.BertForSequenceClassification(config))

    return Scenario(
        module,
        lambda: loaders(sentences, collate_fn=collator()),
        layers=["model.bert.encoder.layer.0", "model.bert.encoder.layer.1", "model.bert.pooler", "model.classifier"],
        x=lambda module, batch: module.model.bert.embeddings.word_embeddings(batch["input_ids"]),
        y=lambda batch: batch["labels"],
        says="output of the embedding layer 'model.bert.embeddings.word_embeddings'",
        of_tokens=True,
    )


def t5(path: Path) -> Scenario:
    """Classes as words: the network needs them to be called at all."""
    transformers = library("transformers")

    def questions(n: int) -> list[dict[str, Tensor]]:
        asked = nn.utils.rnn.pad_sequence(tokens(n, LENGTH, VOCABULARY), batch_first=True)
        answers = torch.stack([4 + labels(n), torch.ones(n, dtype=torch.long)], dim=1)
        return [
            {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": answer}
            for ids, answer in zip(asked, answers, strict=True)
        ]

    def module() -> L.LightningModule:
        config = transformers.T5Config(
            vocab_size=VOCABULARY,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
            pad_token_id=0,
        )
        return HuggingFace(transformers.T5ForConditionalGeneration(config))

    return Scenario(
        module,
        partial(loaders, questions),
        layers=["model.encoder.block.0", "model.encoder.block.1", "model.decoder.block.1", "model.lm_head"],
        x=lambda module, batch: module.model.shared(batch["input_ids"]) * batch["attention_mask"][..., None],
        y=lambda batch: batch["labels"],
        says="output of the embedding layer 'model.encoder.embed_tokens'",
        of_tokens=True,
    )


def patchtst(path: Path) -> Scenario:
    transformers = library("transformers")

    def pasts(n: int) -> list[dict[str, Tensor]]:
        values = images(n, channels=1, size=20)[:, 0, :, :3]
        return [{"future_values": value[16:], "past_values": value[:16]} for value in values]

    def module() -> L.LightningModule:
        config = transformers.PatchTSTConfig(
            num_input_channels=3,
            context_length=16,
            prediction_length=4,
            patch_length=4,
            patch_stride=4,
            d_model=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=32,
        )
        return HuggingFace(transformers.PatchTSTForPrediction(config))

    return Scenario(
        module,
        partial(loaders, pasts),
        layers=["model.model.encoder.layers.0", "model.model.encoder.layers.1", "model.head"],
        x=lambda module, batch: batch["past_values"],
        y=lambda batch: batch["future_values"],
        says="past_values (48, 16, 3)",
    )


def wav2vec2(path: Path) -> Scenario:
    transformers = library("transformers")

    def sounds(n: int) -> list[dict[str, Tensor]]:
        return [
            {"labels": y, "input_values": x.flatten()}
            for x, y in zip(images(n, channels=1, size=20), labels(n), strict=True)
        ]

    def module() -> L.LightningModule:
        config = transformers.Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8, 8),
            conv_kernel=(10, 4),
            conv_stride=(5, 4),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
            classifier_proj_size=8,
            num_labels=CLASSES,
        )
        return HuggingFace(transformers.Wav2Vec2ForSequenceClassification(config))

    return Scenario(
        module,
        partial(loaders, sounds),
        layers=[
            "model.wav2vec2.feature_extractor.conv_layers.0.conv",
            "model.wav2vec2.feature_extractor.conv_layers.1.conv",
            "model.wav2vec2.encoder.layers.0",
            "model.wav2vec2.encoder.layers.1",
            "model.classifier",
        ],
        x=lambda module, batch: batch["input_values"],
        y=lambda batch: batch["labels"],
        says="input_values (48, 400)",
    )


def whisper(path: Path) -> Scenario:
    transformers = library("transformers")

    def spectrograms(n: int) -> list[dict[str, Tensor]]:
        return [
            {"labels": y, "input_features": x.reshape(8, 40)}
            for x, y in zip(images(n, channels=5, size=8), labels(n), strict=True)
        ]

    def module() -> L.LightningModule:
        config = transformers.WhisperConfig(
            d_model=16,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_layers=1,
            decoder_attention_heads=2,
            decoder_ffn_dim=32,
            num_mel_bins=8,
            max_source_positions=20,
            vocab_size=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            classifier_proj_size=8,
            num_labels=CLASSES,
        )
        return HuggingFace(transformers.WhisperForAudioClassification(config))

    return Scenario(
        module,
        partial(loaders, spectrograms),
        layers=[
            "model.encoder.conv1",
            "model.encoder.conv2",
            "model.encoder.layers.0",
            "model.encoder.layers.1",
            "model.classifier",
        ],
        x=lambda module, batch: batch["input_features"],
        y=lambda batch: batch["labels"],
        says="input_features (48, 8, 40)",
    )


class CLIP(HuggingFace):
    """Pictures and captions."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Any:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, pixel_values=pixel_values, return_loss=True
        )


def clip(path: Path) -> Scenario:
    transformers = library("transformers")

    def captioned(n: int) -> list[dict[str, Tensor]]:
        captions = nn.utils.rnn.pad_sequence(tokens(n, LENGTH, VOCABULARY), batch_first=True)
        return [
            {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": x}
            for ids, x in zip(captions, images(n), strict=True)
        ]

    def module() -> L.LightningModule:
        special = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
        small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        text = {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, **special}
        vision = {"image_size": 16, "patch_size": 4}
        config = transformers.CLIPConfig(
            text_config={**small, **text}, vision_config={**small, **vision}, projection_dim=8
        )
        return CLIP(transformers.CLIPModel(config))

    return Scenario(
        module,
        partial(loaders, captioned),
        layers=[
            "model.vision_model.encoder.layers.0",
            "model.vision_model.encoder.layers.1",
            "model.visual_projection",
            "model.text_model.encoder.layers.1",
        ],
        x=lambda module, batch: batch["pixel_values"],
        y=None,
        says="pixel_values (48, 3, 16, 16)",
    )


# -------------------------------------------------------------------------------------------------- x-transformers


class LanguageModel(L.LightningModule):
    """After the README of x-transformers: the wrapper returns the loss."""

    def __init__(self) -> None:
        super().__init__()
        x_transformers = library("x_transformers")
        self.model = x_transformers.AutoregressiveWrapper(
            x_transformers.TransformerWrapper(
                num_tokens=VOCABULARY,
                max_seq_len=LENGTH,
                attn_layers=x_transformers.Decoder(dim=16, depth=2, heads=2, attn_dim_head=8),
            )
        )

    def forward(self, x: Tensor) -> Any:
        return self.model.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x,) = batch
        loss: Tensor = self.model(x)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        (x,) = batch
        self.log("val_loss", self.model(x))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-4)


def x_transformers(path: Path) -> Scenario:
    library("x_transformers")

    def text(n: int) -> TensorDataset:
        whole = [torch.cat([ids, ids])[:LENGTH] for ids in tokens(n, LENGTH, VOCABULARY)]
        return TensorDataset(torch.stack(whole))

    return Scenario(
        LanguageModel,
        partial(loaders, text),
        layers=[
            "model.net.attn_layers.layers.0.1",
            "model.net.attn_layers.layers.1.1",
            "model.net.attn_layers.layers.3.1",
        ],
        x=lambda module, batch: module.model.net.token_emb.emb(batch[0]),
        y=None,
        says="output of the embedding layer 'model.net.token_emb.emb'",
        of_tokens=True,
    )


# ----------------------------------------------------------------------------------------------------------- torch


class Encoder(Classifier):
    """``nn.TransformerEncoder`` on series of different lengths."""

    def __init__(self) -> None:
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        super().__init__(nn.TransformerEncoder(layer, 2))
        self.embed, self.head = nn.Linear(6, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor, padding_mask: Tensor) -> Any:
        hidden = self.net(self.embed(x), src_key_padding_mask=padding_mask)
        there = ~padding_mask[..., None]
        return self.head((hidden * there).sum(1) / there.sum(1))

    def read(self, batch: Any) -> Any:
        x, mask, y = batch.values() if isinstance(batch, dict) else batch
        return x, mask, y

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, mask, y = self.read(batch)
        loss = nn.functional.cross_entropy(self(x, mask), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, mask, y = self.read(batch)
        self.log("val_loss", nn.functional.cross_entropy(self(x, mask), y))


def series(n: int) -> list[tuple[Tensor, Tensor]]:
    """Series of six channels and different lengths, with their classes."""
    generator = torch.Generator().manual_seed(n)
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (n,), generator=generator).tolist()
    wholes = images(n, channels=1, size=LENGTH)[:, 0, :, :6]
    return [(whole[:end], y) for whole, end, y in zip(wholes, lengths, labels(n), strict=True)]


def padded(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """The batch as the documentation of ``nn.TransformerEncoder`` wants it: True where there is nothing."""
    x = nn.utils.rnn.pad_sequence([item[0] for item in items], batch_first=True)
    lengths = torch.tensor([len(item[0]) for item in items])
    return x, torch.arange(x.shape[1]) >= lengths[:, None], torch.stack([item[1] for item in items])


def transformer_encoder(path: Path) -> Scenario:
    def collate(items: Any) -> dict[str, Tensor]:
        return dict(zip(("x", "padding_mask", "label"), padded(items), strict=True))

    return Scenario(
        Encoder,
        partial(loaders, series, collate_fn=collate),
        layers=["embed", "net.layers.0", "net.layers.1", "head"],
        x=lambda module, batch: batch["x"],
        y=lambda batch: batch["label"],
        says="x (48, 12, 6)",
    )


def transformer_encoder_of_tuples(path: Path) -> Scenario:
    return Scenario(
        Encoder,
        partial(loaders, series, collate_fn=padded),
        layers=["embed", "net.layers.0", "net.layers.1", "head"],
        x=lambda module, batch: batch[0],
        y=lambda batch: batch[2],
        says="(48, 12, 6)",
    )


# --------------------------------------------------------------------------------------------- pytorch-forecasting


def temporal_fusion_transformer(path: Path) -> Scenario:
    forecasting = library("pytorch_forecasting")
    pandas = library("pandas")
    encoder, horizon = 8, 2

    def table(groups: int) -> Any:
        length = encoder + horizon
        values = images(groups, channels=1)[:, 0].flatten(1)[:, : 2 * length].reshape(-1, 2)
        return pandas.DataFrame(
            {
                "series": [str(i) for i in range(groups) for _ in range(length)],
                "time_idx": list(range(length)) * groups,
                "value": values[:, 0].numpy(),
                "price": values[:, 1].numpy(),
            }
        )

    def dataset(groups: int) -> Any:
        return forecasting.TimeSeriesDataSet(
            table(groups),
            time_idx="time_idx",
            target="value",
            group_ids=["series"],
            max_encoder_length=encoder,
            max_prediction_length=horizon,
            time_varying_known_reals=["price"],
            time_varying_unknown_reals=["value"],
            target_normalizer=forecasting.data.EncoderNormalizer(),
        )

    def data() -> tuple[Any, Any]:
        return (
            dataset(SAMPLES).to_dataloader(train=True, batch_size=BATCH, num_workers=0),
            dataset(PROBE).to_dataloader(train=False, batch_size=BATCH, num_workers=0),
        )

    def module() -> L.LightningModule:
        model: L.LightningModule = forecasting.TemporalFusionTransformer.from_dataset(
            dataset(SAMPLES),
            learning_rate=0.01,
            hidden_size=8,
            attention_head_size=2,
            hidden_continuous_size=4,
            dropout=0.1,
            optimizer="adam",
            loss=forecasting.metrics.QuantileLoss(),
        )
        return model

    return Scenario(
        module,
        data,
        layers=["lstm_encoder", "static_enrichment", "multihead_attn", "pos_wise_ff", "output_layer"],
        x=lambda module, batch: batch[0]["encoder_cont"],
        y=lambda batch: batch[1][0],
        says="encoder_cont (48, 8, 2)",
        trainer={"gradient_clip_val": 0.1},
    )


SEQUENCES = {
    "transformers BERT with padding": bert,
    "transformers T5": t5,
    "transformers PatchTST": patchtst,
    "transformers Wav2Vec2": wav2vec2,
    "transformers Whisper": whisper,
    "transformers CLIP": clip,
    "x-transformers": x_transformers,
    "nn.TransformerEncoder with mask": transformer_encoder,
    "nn.TransformerEncoder with mask, in tuples": transformer_encoder_of_tuples,
    "pytorch-forecasting TFT": temporal_fusion_transformer,
}
