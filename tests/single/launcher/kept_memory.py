"""How glibc is told to keep memory, word for word, in the lists that launchers are given."""

MEMORY = "GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.hugetlb=1"
