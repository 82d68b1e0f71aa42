"""Images: transformers, diffusers, MONAI, pytorchcv, WebDataset, and what Lightning's own examples do with them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import CombinedLoader
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
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

# ---------------------------------------------------------------------------------------------------- transformers


def labelled(n: int) -> list[dict[str, Tensor]]:
    """As ``datasets`` hands them out; labels come first, as alphabets have it."""
    return [{"labels": y, "pixel_values": x} for x, y in zip(images(n), labels(n), strict=True)]


def vit(path: Path) -> Scenario:
    transformers = library("transformers")

    def module() -> L.LightningModule:
        config = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=4,
            num_labels=CLASSES,
        )
        return HuggingFace(transformers.ViTForImageClassification(config))

    return Scenario(
        module,
        partial(loaders, labelled),
        layers=["model.vit.embeddings", "model.vit.layers.0", "model.vit.layers.1", "model.classifier"],
        x=lambda module, batch: batch["pixel_values"],
        y=lambda batch: batch["labels"],
        says="pixel_values (48, 3, 16, 16)",
    )


class ConvNext(Classifier):
    """Logits for pictures; the batch is a dictionary, the network takes what it needs of it."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.net(pixel_values=pixel_values).logits
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step((batch["pixel_values"], batch["labels"]), batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step((batch["pixel_values"], batch["labels"]), batch_idx)


def convnext(path: Path) -> Scenario:
    transformers = library("transformers")

    def module() -> L.LightningModule:
        config = transformers.ConvNextConfig(
            num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], patch_size=2, image_size=16, num_labels=CLASSES
        )
        return ConvNext(transformers.ConvNextForImageClassification(config))

    return Scenario(
        module,
        partial(loaders, labelled),
        layers=[
            "net.convnext.embeddings.patch_embeddings",
            "net.convnext.encoder.stages.0.layers.0.dwconv",
            "net.convnext.encoder.stages.0.layers.0.pwconv1",
            "net.convnext.encoder.stages.1.downsampling_layer.1",
            "net.convnext.encoder.stages.1.layers.0.dwconv",
        ],
        x=lambda module, batch: batch["pixel_values"],
        y=lambda batch: batch["labels"],
        says="pixel_values (48, 3, 16, 16)",
    )


# ------------------------------------------------------------------------------------------------------- diffusers


class Diffusion(L.LightningModule):
    """Lightning's own example of a diffusion model: it has no ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        diffusers = library("diffusers")
        self.model = diffusers.UNet2DModel(
            sample_size=16,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
        self.scheduler = diffusers.DDPMScheduler()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images = batch["images"]
        noise = torch.randn_like(images)
        steps = torch.randint(self.scheduler.config.num_train_timesteps, (images.size(0),), device=self.device)
        noisy_images = self.scheduler.add_noise(images, noise, steps)
        residual = self.model(noisy_images, steps).sample
        loss = nn.functional.mse_loss(residual, noise)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def unet2d(path: Path) -> Scenario:
    library("diffusers")
    return Scenario(
        Diffusion,
        partial(loaders, lambda n: [{"images": x} for x in images(n)]),
        layers=[
            "model.conv_in",
            "model.down_blocks.0.resnets.0.conv2",
            "model.down_blocks.1.attentions.0",
            "model.mid_block",
            "model.conv_out",
        ],
        x=lambda module, batch: batch["images"],
        y=None,
        says="images (48, 3, 16, 16)",
        told="forward_fn",
    )


# ----------------------------------------------------------------------------------------------------------- MONAI


class Segmenter(L.LightningModule):
    """After MONAI's tutorial ``spleen_segmentation_3d_lightning``, in two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        monai = library("monai")
        self._model = monai.networks.nets.UNet(
            spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1
        )
        self.loss_function = monai.losses.DiceLoss(to_onehot_y=True, softmax=True)

    def forward(self, x: Tensor) -> Any:
        return self._model(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch["image"], batch["label"]
        loss: Tensor = self.loss_function(self.forward(images), labels)
        self.log("train_loss", loss.item())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch["image"], batch["label"]
        self.log("val_loss", self.loss_function(self.forward(images), labels).item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self._model.parameters(), 1e-3)


def monai_unet(path: Path) -> Scenario:
    monai = library("monai")
    library("monai.networks.nets")

    def data() -> tuple[Any, Any]:
        transforms = monai.transforms
        to_tensors = transforms.EnsureTyped(keys=["image", "label"])  # gives MetaTensor
        flip = transforms.RandFlipd(keys=["image", "label"], prob=0.5, spatial_axis=0)
        flip.set_random_state(seed=0)

        def files(n: int) -> list[dict[str, Any]]:
            pictures = images(n, channels=1)
            return [{"image": x.numpy(), "label": (x > 1).float().numpy()} for x in pictures]

        train = monai.data.CacheDataset(files(SAMPLES), transforms.Compose([to_tensors, flip]), progress=False)
        val = monai.data.CacheDataset(files(PROBE), to_tensors, progress=False)
        return (
            monai.data.DataLoader(train, batch_size=BATCH, shuffle=True),
            monai.data.DataLoader(val, batch_size=BATCH),
        )

    return Scenario(
        Segmenter,
        data,
        layers=[
            "_model.model.0.conv.unit0.conv",
            "_model.model.1.submodule.0",
            "_model.model.1.submodule.1.submodule",
            "_model.model.2.1.conv.unit0.conv",
        ],
        x=lambda module, batch: batch["image"].as_tensor(),
        y=lambda batch: batch["label"].as_tensor(),
        says="image (48, 1, 16, 16)",
    )


# ------------------------------------------------------------------------------------------------------- pytorchcv


def pytorchcv_net(path: Path, family: str, make: str, layers: list[str], size: int = 16, **options: Any) -> Scenario:
    """One of its networks, with fewer and narrower stages."""
    models = library(f"pytorchcv.models.{family}")
    return Scenario(
        lambda: Classifier(getattr(models, make)(num_classes=CLASSES, in_size=(size, size), **options)),
        partial(loaders, lambda n: TensorDataset(images(n, size=size), labels(n))),
        layers=[f"net.features.{layer}" for layer in layers],
        x=lambda module, batch: batch[0],
        y=lambda batch: batch[1],
        says=f"(48, 3, {size}, {size})",
    )


resnet = partial(
    pytorchcv_net,
    family="resnet_cifar",
    make="CIFARResNet",
    layers=["init_block.conv", "stage1.unit1.body.conv2.conv", "stage2.unit1.body.conv2.conv", "final_pool"],
    channels=[[4], [8]],
    init_block_channels=4,
    bottleneck=False,
)
densenet = partial(
    pytorchcv_net,
    family="densenet_cifar",
    make="CIFARDenseNet",
    layers=["init_block", "stage1.unit2.conv1.conv", "stage2.trans2.conv.conv", "stage2.unit2.conv2.conv"],
    channels=[[8, 12], [10, 14]],
    init_block_channels=4,
    bottleneck=True,
)
mobilenet = partial(
    pytorchcv_net,
    family="mobilenetv2",
    make="MobileNetV2",
    layers=["init_block.conv", "stage1.unit1.conv2.conv", "stage2.unit1.conv3.conv", "final_block.conv"],
    size=28,
    channels=[[8], [8, 8]],
    init_block_channels=8,
    final_block_channels=16,
    remove_exp_conv=False,
)


# ------------------------------------------------------------------------------------------------------ WebDataset


def written(path: Path, name: str, n: int) -> str:
    """A shard of pictures and classes."""
    shard = path / f"{name}-000000.tar"
    if not shard.exists():
        with library("webdataset").TarWriter(str(shard)) as sink:
            for i, (x, y) in enumerate(zip(images(n), labels(n), strict=True)):
                sink.write({"__key__": f"{i:06d}", "npy": x.numpy(), "cls": int(y)})
    return str(shard)


def small_cnn(channels: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )


def webdataset(path: Path, loaded: Callable[[Any], Any]) -> Scenario:
    """Pictures from a stream of samples, each loader made of the stream."""
    wds = library("webdataset")

    def stream(name: str, n: int) -> Any:
        samples = wds.WebDataset(written(path, name, n), shardshuffle=False, empty_check=False)
        return samples.decode().to_tuple("npy", "cls")

    def collated(loader: Any) -> Any:
        xs, ys = zip(*iter(loader), strict=True)
        return torch.cat([torch.as_tensor(x) for x in xs]), torch.cat([torch.as_tensor(y) for y in ys])

    return Scenario(
        lambda: Classifier(small_cnn()),
        lambda: (loaded(stream("train", SAMPLES)), loaded(stream("val", PROBE))),
        layers=["net.0", "net.2"],
        x=lambda module, batch: batch[0],
        y=lambda batch: batch[1],
        says="(48, 3, 16, 16)",
        collated=collated,
    )


def samples(path: Path) -> Scenario:
    return webdataset(path, lambda stream: DataLoader(stream, batch_size=BATCH))


def batches(path: Path) -> Scenario:
    return webdataset(path, lambda stream: DataLoader(stream.batched(BATCH), batch_size=None))


def web_loader(path: Path) -> Scenario:
    """A pipeline of its own, which shows no data set: its first batches are the probe."""
    wds = library("webdataset")
    return webdataset(path, lambda stream: wds.WebLoader(stream.batched(BATCH), batch_size=None))


# ------------------------------------------------------------------------------------------- Lightning's own corners


class GAN(L.LightningModule):
    """After Lightning's basic GAN tutorial: two networks, two optimizers, optimisation by hand."""

    latent_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(self.latent_dim, 32), nn.ReLU(), nn.Linear(32, 256), nn.Tanh())
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4, 8, 3, stride=2),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(72, 1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Any:
        return self.generator(z).view(-1, 1, 16, 16)

    def adversarial_loss(self, y_hat: Tensor, y: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy(y_hat, y)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        imgs, _ = batch
        optimizer_g, optimizer_d = self.optimizers()
        z = torch.randn(imgs.shape[0], self.latent_dim).type_as(imgs)
        real, fake = torch.ones(imgs.size(0), 1).type_as(imgs), torch.zeros(imgs.size(0), 1).type_as(imgs)

        self.toggle_optimizer(optimizer_g)
        g_loss = self.adversarial_loss(self.discriminator(self(z)), real)
        self.log("g_loss", g_loss, prog_bar=True)
        self.manual_backward(g_loss)
        optimizer_g.step()
        optimizer_g.zero_grad()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        real_loss = self.adversarial_loss(self.discriminator(imgs), real)
        fake_loss = self.adversarial_loss(self.discriminator(self(z).detach()), fake)
        d_loss = (real_loss + fake_loss) / 2
        self.log("d_loss", d_loss, prog_bar=True)
        self.manual_backward(d_loss)
        optimizer_d.step()
        optimizer_d.zero_grad()
        self.untoggle_optimizer(optimizer_d)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(self.generator.parameters()), torch.optim.Adam(self.discriminator.parameters())], []


def gan(path: Path) -> Scenario:
    return Scenario(
        GAN,
        partial(loaders, lambda n: TensorDataset(images(n, channels=1), labels(n))),
        layers=["discriminator.0", "discriminator.2", "discriminator.5"],
        x=lambda module, batch: batch[0],
        y=lambda batch: batch[1],
        says="(48, 1, 16, 16)",
        told="forward_fn",
    )


class TwoViews(Dataset[Any]):
    """Two crops of each picture; random ones to train on."""

    def __init__(self, n: int) -> None:
        self.x, self.y = images(n, size=20), labels(n)
        self.random = n == SAMPLES

    def __len__(self) -> int:
        return len(self.x)

    def crop(self, x: Tensor, at: int) -> Tensor:
        top, left = torch.randint(0, 5, (2,)).tolist() if self.random else (at, at)
        return x[:, top : top + 16, left : left + 16]

    def __getitem__(self, i: int) -> Any:
        return (self.crop(self.x[i], 0), self.crop(self.x[i], 4)), self.y[i]


class SimCLR(L.LightningModule):
    """After Lightning's tutorial on contrastive learning."""

    def __init__(self) -> None:
        super().__init__()
        self.convnet = small_cnn()

    def forward(self, x: Tensor) -> Any:
        return self.convnet(x)

    def info_nce_loss(self, batch: Any) -> Tensor:
        imgs, _ = batch
        feats = self.convnet(torch.cat(imgs, dim=0))
        cos_sim = nn.functional.cosine_similarity(feats[:, None, :], feats[None, :, :], dim=-1)
        self_mask = torch.eye(cos_sim.shape[0], dtype=torch.bool, device=cos_sim.device)
        cos_sim.masked_fill_(self_mask, -9e15)
        pos_mask = self_mask.roll(shifts=cos_sim.shape[0] // 2, dims=0)
        cos_sim = cos_sim / 0.1
        return (-cos_sim[pos_mask] + torch.logsumexp(cos_sim, dim=-1)).mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.info_nce_loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.info_nce_loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def simclr(path: Path) -> Scenario:
    return Scenario(
        SimCLR,
        partial(loaders, TwoViews),
        layers=["convnet.0", "convnet.2", "convnet.6"],
        x=lambda module, batch: batch[0][0],
        y=lambda batch: batch[1],
        says="(48, 3, 16, 16)",
    )


class SemiSupervised(Classifier):
    """Two streams of data in one batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (unlabelled,) = batch["unlabelled"]
        consistency = (self(unlabelled) - self(unlabelled.flip(-1))).square().mean()
        return super().training_step(batch["labelled"], batch_idx) + 0.1 * consistency

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch["labelled"], batch_idx)


def combined_loader(path: Path) -> Scenario:
    def data() -> tuple[Any, Any]:
        train, val = loaders(lambda n: TensorDataset(images(n), labels(n)))
        more, other = loaders(lambda n: TensorDataset(images(n + 1)[1:]))
        return (
            CombinedLoader({"labelled": train, "unlabelled": more}, "max_size_cycle"),
            CombinedLoader({"labelled": val, "unlabelled": other}, "min_size"),
        )

    def collated(loader: Any) -> Any:
        x, y = loader.iterables["labelled"].dataset.tensors
        return x, y

    return Scenario(
        lambda: SemiSupervised(small_cnn()),
        data,
        layers=["net.0", "net.2"],
        x=lambda module, batch: batch[0],
        y=lambda batch: batch[1],
        says="(48, 3, 16, 16)",
        collated=collated,
    )


def ready_made_batches(path: Path) -> Scenario:
    """Arrays, a batch at a time: what HDF5 files and buffers of experience hand out."""

    def stored(n: int) -> list[Any]:
        x, y = images(n).numpy(), labels(n).numpy()
        return [(x[first : first + BATCH], y[first : first + BATCH]) for first in range(0, n, BATCH)]

    return Scenario(
        lambda: Classifier(small_cnn()),
        lambda: (
            DataLoader(stored(SAMPLES), batch_size=None, shuffle=True),
            DataLoader(stored(PROBE), batch_size=None),
        ),
        layers=["net.0", "net.2"],
        x=lambda module, batch: batch[0],
        y=lambda batch: batch[1],
        says="(48, 3, 16, 16)",
        collated=lambda loader: (images(PROBE), labels(PROBE)),
    )


class OfAnySize(Classifier):
    """Pictures as detectors take them: a list."""

    def forward(self, x: list[Tensor]) -> Any:
        grids = [nn.functional.adaptive_avg_pool2d(image, 16) for image in x]
        return self.net(torch.stack(grids))


def of_different_sizes(path: Path) -> Scenario:
    def pictures(n: int) -> list[Any]:
        whole = images(n, size=24)
        return [(x[:, : 16 + i % 9, : 24 - i % 5], y) for i, (x, y) in enumerate(zip(whole, labels(n), strict=True))]

    def collate(items: list[Any]) -> Any:
        return [x for x, _ in items], torch.stack([y for _, y in items])

    return Scenario(
        lambda: OfAnySize(small_cnn()),
        partial(loaders, pictures, collate_fn=collate),
        layers=["net.0", "net.2"],
        x=lambda module, batch: torch.stack([nn.functional.adaptive_avg_pool2d(image, 8) for image in batch[0]]),
        y=lambda batch: batch[1],
        says="(48, 3, 8, 8)",
        told="probe",
    )


PICTURES = {
    "transformers ViT": vit,
    "transformers ConvNeXt": convnext,
    "diffusers UNet2D": unet2d,
    "MONAI UNet with MetaTensor": monai_unet,
    "pytorchcv ResNet": resnet,
    "pytorchcv DenseNet": densenet,
    "pytorchcv MobileNetV2": mobilenet,
    "WebDataset": samples,
    "WebDataset of batches": batches,
    "WebLoader": web_loader,
    "GAN": gan,
    "SimCLR views": simclr,
    "CombinedLoader": combined_loader,
    "batches that are ready-made": ready_made_batches,
    "pictures of different sizes": of_different_sizes,
}
