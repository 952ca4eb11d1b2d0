"""Wasserstein GAN with gradient penalty on points that lie on rings."""

import math

import torch
from torch import nn

LATENT, BATCH, CRITIC_STEPS, STEPS = 16, 256, 5, 110


def real_points(n):
    angle = 2 * math.pi * torch.rand(n)
    radius = torch.randint(1, 4, (n,)) / 3 + 0.02 * torch.randn(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


class Generator(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(LATENT, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 2),
        )

    def forward(self, z):
        return self.net(z)


class Critic(nn.Module):
    def __init__(self, width=512):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 1),
        )

    def forward(self, x):
        return self.net(x)


def gradient_penalty(critic, real, fake):
    mix = torch.rand(len(real), 1)
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (grad,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((grad.norm(dim=1) - 1) ** 2).mean()


class WGAN:
    def __init__(self):
        self.g, self.d = Generator(), Critic()
        self.g_optimizer = torch.optim.Adam(self.g.parameters(), lr=1e-4, betas=(0.5, 0.9))
        self.d_optimizer = torch.optim.Adam(self.d.parameters(), lr=1e-4, betas=(0.5, 0.9))

    def critic_step(self):
        real = real_points(BATCH)
        with torch.no_grad():
            fake = self.g(torch.randn(BATCH, LATENT))
        loss = self.d(fake).mean() - self.d(real).mean()
        loss = loss + 10 * gradient_penalty(self.d, real, fake)
        self.d_optimizer.zero_grad()
        loss.backward()
        self.d_optimizer.step()
        return loss

    def generator_step(self):
        loss = -self.d(self.g(torch.randn(BATCH, LATENT))).mean()
        self.g_optimizer.zero_grad()
        loss.backward()
        self.g_optimizer.step()
        return loss

    def train(self):
        for step in range(1, STEPS + 1):
            for _ in range(CRITIC_STEPS):
                d_loss = self.critic_step()
            g_loss = self.generator_step()
            if step % 20 == 0:
                print(f"step {step}: critic {d_loss.item():.4f} generator {g_loss.item():.4f}")


torch.manual_seed(12)
WGAN().train()
