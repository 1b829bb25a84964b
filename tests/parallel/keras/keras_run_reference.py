"""A small model and its data, and what a run folder of its training must hold, in numpy alone."""

from typing import Any

import numpy as np

INPUTS, CLASSES, IMAGES, MINIBATCH, EPOCHS = 4, 7, 40, 8, 3
STEPS = IMAGES // MINIBATCH
MOMENTUM = 0.9
KERAS_MOMENTUM = float(np.float32(MOMENTUM))  # keras.optimizers.SGD rounds it, whatever the weights' dtype
# Of each minibatch of 8 rank 0 takes 5 images and rank 1 takes 3.
SHARDS = ((0, 5), (5, 8))
RECIPE: dict[str, Any] = {
    "minibatch": MINIBATCH, "per_worker": 4, "epochs": EPOCHS, "reference_lr": 0.05, "reference_minibatch": 4,
    "warmup_epochs": 1.3, "schedule": "cosine",
}  # fmt: skip


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, and 23 for validation."""
    random = np.random.default_rng(4)
    images = random.normal(size=(IMAGES + 23, INPUTS))
    labels = (images @ random.normal(size=(INPUTS, CLASSES)) + random.normal(size=(len(images), CLASSES))).argmax(1)
    return images[:IMAGES], labels[:IMAGES], images[IMAGES:], labels[IMAGES:]


def statistics(w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums over the images: [loss, wrong, not among the top 5]; gradients of the loss by w and b."""
    logits = x @ w + b
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    of_label = logits[np.arange(len(y)), y]
    rank = (logits > of_label[:, None]).sum(1)
    error = probabilities - np.eye(CLASSES)[y]
    sums = np.array([-np.log(probabilities[np.arange(len(y)), y]).sum(), (rank >= 1).sum(), (rank >= 5).sum()])
    return sums, x.T @ error, error.sum(0)


def reference(
    shards: tuple[tuple[int, int], ...], momentum: float
) -> tuple[list[dict[str, float]], list[dict[str, float]], np.ndarray]:
    """Rows of iterations.csv and metrics.csv, and the weights, of u ← m·u + g; w ← w − η·u."""
    from hvd_imagenet.recipes import Recipe

    recipe = Recipe(**RECIPE)
    x, y, x_val, y_val = data()
    w, b = initial()
    u_w, u_b = np.zeros_like(w), np.zeros_like(b)
    iterations, epochs = [], []
    for epoch in range(EPOCHS):
        total = np.zeros(3)
        for step in range(STEPS):
            t = epoch * STEPS + step
            lr = recipe.learning_rate(t * MINIBATCH / IMAGES)
            start, sums, g_w, g_b = step * MINIBATCH, np.zeros(3), 0.0, 0.0
            for first, end in shards:
                part = slice(start + first, start + end)
                of_part, by_w, by_b = statistics(w, b, x[part], y[part])
                sums, size = sums + of_part, (end - first) * len(shards)  # the mean of the shards' means
                g_w, g_b = g_w + by_w / size, g_b + by_b / size
            u_w, u_b = momentum * u_w + g_w, momentum * u_b + g_b
            w, b = w - lr * u_w, b - lr * u_b
            total += sums
            iterations.append(
                {"iteration": t, "epoch": t * MINIBATCH / IMAGES, "lr": lr, "loss": sums[0] / MINIBATCH}
            )  # fmt: skip
        validation = statistics(w, b, x_val, y_val)[0] / 23
        epochs.append({
            "epoch": epoch, "iteration": t, "lr": lr,
            "train_loss": total[0] / IMAGES, "train_error": 100 * total[1] / IMAGES,
            "val_loss": validation[0], "val_error": 100 * validation[1], "val_error_top5": 100 * validation[2],
        })  # fmt: skip
    return iterations, epochs, w


def initial() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(8)
    return random.normal(size=(INPUTS, CLASSES)), random.normal(size=CLASSES)
