"""Image folders in, numpy arrays out: listing, cropping, decoding, and the embedded data sets. No framework."""
