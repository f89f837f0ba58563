"""A program for the tests: train the tiny CycleGAN, and leave each rank's weights in the folder."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from models.training import train
from tiny_training import tiny_recipe

folder, data_root, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
optimizers = []
register_optimizer_step_post_hook(lambda optimizer, *_: optimizers.append(optimizer))
recipe = tiny_recipe("cyclegan", steps=steps, batch=1, checkpoint_every=2, log_every=1)
train(recipe, folder, data_root=data_root, device=torch.device("cpu"))
weights = {
    f"{position}/{index}": parameter.detach()
    for position, optimizer in enumerate(optimizers[-2:])
    for index, parameter in enumerate(optimizer.param_groups[0]["params"])
}
save_file(weights, folder / f"rank{os.environ.get('RANK', '0')}.safetensors")
