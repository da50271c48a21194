"""Untrained text-to-picture and text-to-video pipelines of the real classes, small enough for tests."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import families
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from tokenizers import pre_tokenizers, processors
from transformers import (
    ByT5Tokenizer,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralImageProcessor,
    PixtralProcessor,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


@cache
def clip_tokenizer() -> CLIPTokenizer:
    words = ["<|startoftext|>", "<|endoftext|>", *BYTES, *(f"{letter}</w>" for letter in BYTES)]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=24)


def clip_text(**more: Any) -> CLIPTextConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": 2 + 2 * len(BYTES), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "max_position_embeddings": 24}
    return CLIPTextConfig(**sizes | ids | more)


@cache
def t5_tokenizer() -> T5Tokenizer:
    letters = [chr(code) for code in range(33, 127)]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=64)


def t5_config(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": 128,
        "d_model": 16,
        "d_ff": 32,
        "d_kv": 8,
        "num_heads": 2,
        "num_layers": 2,
        "feed_forward_proj": "gated-gelu",
    } | more


def autoencoder(**more: Any) -> AutoencoderKL:
    """Halves each side, 4 channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=4, mid_block_add_attention=False, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.8, **more,
    )  # fmt: skip


def flux(folder: Path, guidance_embeds: bool = True, kind: Any = None) -> Path:
    """`kind`: the pipeline's class, where it is another of the same parts."""
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

    torch.manual_seed(0)
    (kind or FluxPipeline)(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=autoencoder(),
        text_encoder=CLIPTextModel(clip_text()),
        tokenizer=clip_tokenizer(),
        text_encoder_2=T5EncoderModel(T5Config(**t5_config())),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
            pooled_projection_dim=16, guidance_embeds=guidance_embeds, axes_dims_rope=(4, 6, 6),
        ),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def qwen_autoencoder() -> Any:
    """Halves each side, 4 channels."""
    from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False], latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.2, 0.9],
    )  # fmt: skip


def qwen(folder: Path, edits: Any = None, **more: Any) -> Path:
    """`edits`: the class of a pipeline that does. `more`: of the transformer."""
    from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel
    from diffusers.pipelines.qwenimage.pipeline_qwenimage import QwenImagePipeline

    torch.manual_seed(0)
    encoder, processor = families.qwen25()
    kind: Any = partial(edits, processor=processor) if edits else QwenImagePipeline
    kind(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02, max_shift=0.9),
        vae=qwen_autoencoder(),
        text_encoder=encoder,
        tokenizer=processor.tokenizer,
        transformer=QwenImageTransformer2DModel(
            in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=64,
            axes_dims_rope=(4, 6, 6), **more,
        ),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def chat_tokenizer() -> Any:
    made = families.tokenizer(Qwen2TokenizerFast, families.QWEN)
    made.chat_template = "{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_end|>{% endfor %}"
    return made


def z_image(folder: Path) -> Path:
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
    from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline

    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    encoder = Qwen3Model(Qwen3Config(**families.TEXT | {"hidden_size": 16, "vocab_size": len(tokenizer), "head_dim": 8}))
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16, axes_dims=[4, 6, 6],
        axes_lens=[256, 32, 32],
    )  # fmt: skip
    for name in ("x_pad_token", "cap_pad_token"):
        torch.nn.init.normal_(getattr(transformer, name))
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=autoencoder(), text_encoder=encoder, tokenizer=tokenizer,
        transformer=transformer,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def wan(folder: Path, experts: float | None = None, expand_timesteps: bool = False, image: str | None = None) -> Path:
    """`experts`: where two of them meet. `image`: starts from a picture, whose latents (`latents`) and features (`features`) it sees, or
    from two, of both of which it sees them (`both features`)."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
    from diffusers.pipelines.wan.pipeline_wan import WanPipeline
    from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline

    torch.manual_seed(0)
    looks, kind = {}, WanPipeline
    if image:
        vision = CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
        )
        processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
        looks = {"image_encoder": CLIPVisionModel(vision), "image_processor": processor} if "features" in image else {}
        kind = WanImageToVideoPipeline
    seen = 10 if image and not expand_timesteps else 4
    sees: Any = {"image_dim": 16, "added_kv_proj_dim": 24, "pos_embed_seq_len": 10 if "both" in str(image) else None} if looks else {}
    transformers = [
        WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=seen, out_channels=4, text_dim=16,
            freq_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=32, **sees,
        )
        for _ in range(1 if experts is None else 2)
    ]  # fmt: skip
    kind(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        vae=AutoencoderKLWan(
            base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True], scale_factor_temporal=2,
            scale_factor_spatial=2, latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.8, 1.2, 0.9],
        ),
        text_encoder=UMT5EncoderModel(UMT5Config(**t5_config())),
        tokenizer=t5_tokenizer(),
        transformer=transformers[0],
        transformer_2=transformers[1] if experts else None,
        boundary_ratio=experts,
        expand_timesteps=expand_timesteps,
        **looks,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def flux2_parts(width: int, guidance_embeds: bool) -> dict[str, Any]:
    """All but the text encoder, whose three layers are `width` wide together."""
    from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
    from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=4, mid_block_add_attention=False,
    )  # fmt: skip
    torch.nn.init.normal_(vae.bn.running_mean)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=width,
        timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guidance_embeds,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return {"vae": vae, "transformer": transformer, "scheduler": scheduler}


def flux2(folder: Path) -> Path:
    from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline

    torch.manual_seed(0)
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    tokenizer = families.tokenizer(PreTrainedTokenizerFast, special)
    tokenizer.truncation_side = "left"
    words = families.template("[IMG]")
    image = PixtralImageProcessor(patch_size=4, size={"longest_edge": 16})
    narrow = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    text = narrow | {"vocab_size": len(tokenizer), "num_hidden_layers": 30, "num_key_value_heads": 2, "head_dim": 4}
    config = Mistral3Config(
        text_config=MistralConfig(**text), vision_config=PixtralVisionConfig(**narrow, head_dim=4, image_size=16, patch_size=4),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )  # fmt: skip
    Flux2Pipeline(
        text_encoder=Mistral3ForConditionalGeneration(config),
        tokenizer=PixtralProcessor(image_processor=image, tokenizer=tokenizer, patch_size=4, chat_template=words),
        **flux2_parts(24, guidance_embeds=True),
    ).save_pretrained(folder)
    return folder


def flux2_klein(folder: Path) -> Path:
    from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline

    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    text = families.TEXT | {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 27, "vocab_size": len(tokenizer), "head_dim": 4}
    encoder = Qwen3ForCausalLM(Qwen3Config(**text))
    Flux2KleinPipeline(text_encoder=encoder, tokenizer=tokenizer, **flux2_parts(24, guidance_embeds=False)).save_pretrained(folder)
    return folder


def hunyuan_video(folder: Path, image: str | None = None, guidance_embeds: bool = True) -> Path:
    """`image`: starts from a picture, in this way (the transformer's `image_condition_type`)."""
    from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
    from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import HunyuanVideoPipeline
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import HunyuanVideoImageToVideoPipeline

    torch.manual_seed(0)
    special = (*families.QWEN, "<|begin_of_text|>", "<|start_header_id|>", "system", "<|end_header_id|>", "\n\n", "<image>")
    tokenizer = families.tokenizer(PreTrainedTokenizerFast, special)
    tokenizer.padding_side, tokenizer.truncation_side = "right", "left"
    text = LlamaConfig(**families.TEXT | {"hidden_size": 16, "vocab_size": len(tokenizer), "pad_token_id": 0, "num_hidden_layers": 3})
    looks: dict[str, Any] = {}
    if image:
        tokenizer.truncation_side = "right"
        begin = tokenizer.convert_tokens_to_ids("<|begin_of_text|>")
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
        )
        vision = CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=48, patch_size=2
        )
        number = tokenizer.convert_tokens_to_ids("<image>")
        encoder = LlavaForConditionalGeneration(
            LlavaConfig(text_config=text, vision_config=vision, image_token_index=number, pad_token_id=0, image_seq_length=576)
        )
        looks = {"image_processor": CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})}
    kind: Any = HunyuanVideoImageToVideoPipeline if image else HunyuanVideoPipeline
    kind(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        vae=AutoencoderKLHunyuanVideo(
            down_block_types=("HunyuanVideoDownBlock3D",) * 3, up_block_types=("HunyuanVideoUpBlock3D",) * 3,
            block_out_channels=(8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, spatial_compression_ratio=4,
            temporal_compression_ratio=4, mid_block_add_attention=False,
        ),
        text_encoder=encoder if image else LlamaModel(text),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModel(clip_text(max_position_embeddings=77)),
        tokenizer_2=clip_tokenizer(),
        transformer=HunyuanVideoTransformer3DModel(
            in_channels=9 if image == "latent_concat" else 4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1,
            num_single_layers=1, num_refiner_layers=1, text_embed_dim=16, pooled_projection_dim=16, rope_axes_dim=(4, 6, 6),
            image_condition_type=image, guidance_embeds=guidance_embeds,
        ),
        **looks,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def hunyuan_video15(folder: Path, image: bool = False) -> Path:
    """`image`: starts from a picture."""
    from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance
    from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import AutoencoderKLHunyuanVideo15
    from diffusers.models.transformers.transformer_hunyuan_video15 import HunyuanVideo15Transformer3DModel
    from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import HunyuanVideo15Pipeline
    from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5_image2video import HunyuanVideo15ImageToVideoPipeline

    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    tokenizer.padding_side, tokenizer.truncation_side = "right", "left"
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    text = families.TEXT | {"vocab_size": len(tokenizer), "num_hidden_layers": 3, "rope_parameters": rope}
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    looks: dict[str, Any] = {}
    if image:
        looks = {
            "image_encoder": SiglipVisionModel(vision),
            "feature_extractor": SiglipImageProcessor(size={"height": 16, "width": 16}),
        }
    kind: Any = HunyuanVideo15ImageToVideoPipeline if image else HunyuanVideo15Pipeline
    kind(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        vae=AutoencoderKLHunyuanVideo15(
            latent_channels=4, block_out_channels=(8, 8, 8), layers_per_block=1, spatial_compression_ratio=4, temporal_compression_ratio=2,
        ),
        text_encoder=Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**text)),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(T5Config(**t5_config(vocab_size=384))),
        tokenizer_2=ByT5Tokenizer(),
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
        transformer=HunyuanVideo15Transformer3DModel(
            in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1, num_refiner_layers=1,
            text_embed_dim=text["hidden_size"], text_embed_2_dim=16, image_embed_dim=16, rope_axes_dim=(4, 6, 6),
        ),
        **looks,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def ltx2(folder: Path, kind: Any = None) -> Path:
    """`kind`: the pipeline's class, where it is another of the same parts."""
    from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
    from diffusers.models.autoencoders.autoencoder_kl_ltx2_audio import AutoencoderKLLTX2Audio
    from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from diffusers.pipelines.ltx2.pipeline_ltx2 import LTX2Pipeline
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    torch.manual_seed(0)
    encoder, processor = families.gemma3()
    width = encoder.config.text_config.hidden_size
    connector: Any = {
        f"{part}_connector_{key}": value
        for part in ("video", "audio")
        for key, value in {"num_attention_heads": 2, "attention_head_dim": width // 2, "num_layers": 1}.items()
    } | {"video_connector_num_learnable_registers": None, "audio_connector_num_learnable_registers": None}
    vae = AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,), layers_per_block=(1,), decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,), decoder_spatio_temporal_scaling=(True,), decoder_inject_noise=(False, False),
        downsample_type=("spatial",), upsample_residual=(False,), upsample_factor=(1,), timestep_conditioning=False, patch_size=1,
    )  # fmt: skip
    torch.nn.init.normal_(vae.latents_mean, std=0.2)
    torch.nn.init.uniform_(vae.latents_std, 0.5, 1.5)
    sound = AutoencoderKLLTX2Audio(
        base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, attn_resolutions=None, in_channels=2, resolution=32,
        latent_channels=2, mid_block_add_attention=False, mel_bins=8,
    )  # fmt: skip
    (kind or LTX2Pipeline)(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, shift_terminal=0.1),
        vae=vae,
        audio_vae=sound,
        text_encoder=encoder,
        tokenizer=processor.tokenizer,
        connectors=LTX2TextConnectors(
            caption_channels=width, text_proj_in_factor=encoder.config.text_config.num_hidden_layers + 1, connector_rope_base_seq_len=32,
            rope_double_precision=False, causal_temporal_positioning=False, rope_type="split", **connector,
        ),
        transformer=LTX2VideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16, audio_in_channels=4,
            audio_out_channels=4, audio_num_attention_heads=2, audio_attention_head_dim=4, audio_cross_attention_dim=8, num_layers=1,
            caption_channels=width, rope_double_precision=False, rope_type="split",
        ),
        vocoder=LTX2Vocoder(
            in_channels=16, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
            resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], output_sampling_rate=16000,
        ),
    ).save_pretrained(folder)  # fmt: skip
    return folder
