"""Images of any size, labelled exactly, in fixed memory, resumably, on one machine or many.

``label`` reads an image by windows, labels it region by region and writes the labels; ``plan``
tells beforehand how. ``lazy`` gives labels as a Dask array. ``View`` is an image to learn from
(docs/large-images.md).
"""

from net.large.labelling import LabellingPlan, label, plan
from net.large.lazy import lazy
from net.large.views import View

__all__ = ["LabellingPlan", "View", "label", "lazy", "plan"]
