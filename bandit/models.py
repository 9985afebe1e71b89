"""The optional files of a bundle: networks (ONNX) and the arrays that they are fed with.

user_tower.onnx, item_tower.onnx    the two towers
ranker_user.onnx, ranker_item.onnx  the ranker's halves: what depends on the user alone, and the rest
features.safetensors                all items' vectors, and items' and users' features as the networks read them
text.safetensors                    the encoder that made vectors of the items' text (`offline.text.encoder`)
"""

USER_TOWER, ITEM_TOWER = "user_tower.onnx", "item_tower.onnx"
RANKER_USER, RANKER_ITEM = "ranker_user.onnx", "ranker_item.onnx"
FEATURES, TEXT = "features.safetensors", "text.safetensors"
MODELS = (USER_TOWER, ITEM_TOWER, RANKER_USER, RANKER_ITEM, FEATURES, TEXT)

HISTORY_LENGTH = "history_length"
"""Metadata of a network that reads histories: how long they are at most."""
