"""DeepPicker: fully automated particle picking in cryo-electron micrographs.

``__init__.pyi`` lists the public names and where they live. Each is imported when it is first used, so what needs no
PyTorch starts fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
