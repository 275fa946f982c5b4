"""Gather, scatter and operations that select elements by their values."""

import numpy as np

from .registry import Out, Unsupported, axis_of, op

MODES = {
    "update": lambda old, new: new, "add": lambda old, new: old + new, "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new, "max": max, "min": min,
}  # fmt: skip


def combine(mode, old, new):
    """An element after an update. Integers are only divided without a remainder."""
    if mode == "div":
        return old / new if isinstance(new, np.floating) else old // new
    return MODES[mode](old, new)


@op("gather", exact=True)
def gather(c, x, indices, axis=0, batch_dims=0, validate_indices=False):
    axis, b = axis_of(axis, x.ndim), int(batch_dims)
    if b == 0:
        return np.take(x, indices, axis)
    rows = x.reshape(-1, *x.shape[b:])
    picks = indices.reshape(rows.shape[0], *indices.shape[b:])
    both = [np.take(row, pick, axis - b) for row, pick in zip(rows, picks)]
    return np.stack(both).reshape(*x.shape[:b], *both[0].shape)


@op("gather_along_axis", exact=True)
def gather_along_axis(c, x, indices, axis=0, validate_indices=False):
    axis = axis_of(axis, x.ndim)
    indices = np.where(indices < 0, indices + x.shape[axis], indices)
    places = list(np.indices(indices.shape))
    places[axis] = indices
    return x[tuple(places)]


@op("gather_nd", exact=True)
def gather_nd(c, x, indices, batch_dims=0, validate_indices=False):
    b = int(batch_dims)
    if b == 0:
        return x[tuple(np.moveaxis(indices, -1, 0))]
    rows = x.reshape(-1, *x.shape[b:])
    picks = indices.reshape(rows.shape[0], *indices.shape[b:])
    both = [row[tuple(np.moveaxis(pick, -1, 0))] for row, pick in zip(rows, picks)]
    return np.stack(both).reshape(*x.shape[:b], *both[0].shape)


@op("scatter")
def scatter(c, data, indices, updates, axis=0, mode="add", validate_indices=False):
    axis = axis_of(axis, data.ndim)
    result = np.moveaxis(data.copy(), axis, 0)
    for i, row in zip(indices, np.moveaxis(updates, axis, 0)):
        result[int(i)] = by_element(mode, result[int(i)], row)
    return np.moveaxis(result, 0, axis)


def by_element(mode, old, new):
    if mode == "update":
        return new
    if mode in ("max", "min"):
        return np.maximum(old, new) if mode == "max" else np.minimum(old, new)
    if mode == "div":
        return old / new if np.asarray(old).dtype.kind == "f" else old // new
    return MODES[mode](old, new)


@op("scatter_along_axis")
def scatter_along_axis(c, data, indices, updates, axis=0, mode="add", validate_indices=False):
    axis = axis_of(axis, data.ndim)
    result = data.copy()
    for place in np.ndindex(indices.shape):
        target = list(place)
        target[axis] = int(indices[place])
        target = tuple(target)
        result[target] = combine(mode, result[target], updates[place])
    return result


@op("scatter_nd")
def scatter_nd(c, data, indices, updates, mode="add", validate_indices=False):
    result = data.copy()
    for place in np.ndindex(indices.shape[:-1]):
        target = tuple(int(i) for i in indices[place])
        result[target] = by_element(mode, result[target], updates[place])
    return result


@op("non_maximum_suppression", exact=True)
def non_maximum_suppression(
    c, boxes, scores, iou_threshold, max_boxes, score_threshold=None, per_class_suppression=False
):
    if c.version >= 8:
        boxes, scores = np.swapaxes(boxes, 1, 2), np.swapaxes(scores, 1, 2)
    most = int(max_boxes)
    picked = [
        suppress(b, s, iou_threshold, score_threshold, most, bool(per_class_suppression)) for b, s in zip(boxes, scores)
    ]
    if any(len(p) < most for p in picked):
        raise Unsupported("what fills the places of boxes that are not there")
    chosen = np.stack([b[p] for b, p in zip(boxes, picked)])
    kept = np.stack([s[p] for s, p in zip(scores, picked)])
    if c.version >= 8:
        chosen, kept = np.swapaxes(chosen, 1, 2), np.swapaxes(kept, 1, 2)
    results = (chosen, Out(kept, c.dtypes["scores"]), Out(np.array(picked), "int32"))
    return results if c.version >= 8 else (*results, Out(np.array([len(p) for p in picked]), "int32"))


def suppress(boxes, scores, iou_threshold, score_threshold, most, per_class):
    best = scores.max(1)
    order = [i for i in np.argsort(-best, kind="stable") if score_threshold is None or best[i] >= score_threshold]
    picked = []
    for i in order:
        rivals = [j for j in picked if not per_class or scores[i].argmax() == scores[j].argmax()]
        if all(iou(boxes[i], boxes[j]) <= iou_threshold for j in rivals):
            picked.append(i)
        if len(picked) == most:
            break
    return picked


def iou(a, b):
    """Intersection over union of two boxes given as centre and size."""
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    both = np.prod(np.maximum(high - low, 0))
    return both / (np.prod(a[2:]) + np.prod(b[2:]) - both)
