"""Images, whatever they show: resampling, normalisation, noise."""
