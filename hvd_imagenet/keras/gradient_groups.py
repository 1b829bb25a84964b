"""Which gradients travel together: neighbours in backprop, of one dtype, as many as fit."""

GROUP_BYTES = 2**25


def by_size(indices: list[int], bytes_of: dict[int, int], dtypes: dict[int, str], limit_bytes: int) -> list[list[int]]:
    """Contiguous groups of one dtype each, each of at most a number of bytes, or of one gradient.

    Args:
        indices: of the gradients, in the order in which backprop makes them.
        bytes_of: size of each.
        dtypes: of each.
        limit_bytes: of a group.

    Returns:
        The indices in their order, in groups.

    Example:
        >>> by_size([2, 1, 0], {0: 4, 1: 4, 2: 4}, {0: "float32", 1: "float32", 2: "float32"}, 8)
        [[2, 1], [0]]
    """
    groups: list[list[int]] = []
    filled = 0
    for index in indices:
        same = groups and dtypes[groups[-1][-1]] == dtypes[index]
        if not same or filled + bytes_of[index] > limit_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += bytes_of[index]
    return groups


def by_number(indices: list[int], number: int) -> list[list[int]]:
    """A number of contiguous groups, whose lengths differ by one at most.

    Args:
        indices: of the gradients.
        number: of groups; fewer where there are fewer gradients.

    Returns:
        The indices in their order, in groups.

    Example:
        >>> by_number([0, 1, 2, 3, 4], 2)
        [[0, 1, 2], [3, 4]]
    """
    length, longer = divmod(len(indices), number)
    groups, start = [], 0
    for group in range(number):
        end = start + length + (group < longer)
        groups.append(indices[start:end])
        start = end
    return [group for group in groups if group]


def one_dtype_each(groups: list[list[int]], dtypes: dict[int, str]) -> list[list[int]]:
    """Divides groups in which dtypes are mixed: a collective has one dtype.

    Args:
        groups: of indices.
        dtypes: of each index.

    Returns:
        Groups of one dtype each.

    Example:
        >>> one_dtype_each([[0, 1, 2]], {0: "float32", 1: "float16", 2: "float32"})
        [[0, 2], [1]]
    """
    return [
        [index for index in group if dtypes[index] == dtype]
        for group in groups
        for dtype in dict.fromkeys(dtypes[index] for index in group)
    ]
