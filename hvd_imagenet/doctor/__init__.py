"""`doctor` over hosts: what each of them says of itself, compared, and the network between them measured.

What a single host can find out about itself is in `horovod_build.doctor`, which every host runs too.
"""
