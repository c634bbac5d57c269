"""What several engines share around a VAE: ring-aware coding, latent scaling, quick previews."""
