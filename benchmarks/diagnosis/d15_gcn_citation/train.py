"""Two-layer graph convolution on a citation-like graph (semi-supervised)."""

import argparse

import torch
from torch import nn


def citation_graph(nodes, degree, classes, seed=0):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, classes, (nodes,), generator=g)
    by_class = [torch.nonzero(label == c).flatten() for c in range(classes)]
    edges = []
    for v in range(nodes):
        friends = by_class[int(label[v])]
        near = friends[torch.randint(0, len(friends), (degree - 1,), generator=g)]
        far = torch.randint(0, nodes, (1,), generator=g)
        edges += [(v, int(u)) for u in torch.cat([near, far])]
    features = torch.randn(nodes, 64, generator=g)
    features[:, :classes] += nn.functional.one_hot(label, classes)
    return features, edges, label


def normalised_adjacency(edges, nodes):
    neighbours = {v: {v} for v in range(nodes)}
    for a, b in edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    index, value = [], []
    for v, around in neighbours.items():
        for u in sorted(around):
            index.append((v, u))
            value.append((len(around) * len(neighbours[u])) ** -0.5)
    return torch.sparse_coo_tensor(torch.tensor(index).T, torch.tensor(value), (nodes, nodes))


class GCN(nn.Module):
    def __init__(self, d_in, hidden, classes):
        super().__init__()
        self.first = nn.Linear(d_in, hidden)
        self.second = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, edges):
        adjacency = normalised_adjacency(edges, len(x))
        h = torch.relu(torch.sparse.mm(adjacency, self.first(x)))
        return torch.sparse.mm(adjacency, self.second(self.dropout(h)))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--steps", type=int, default=150)
    p.add_argument("--nodes", type=int, default=3000)
    p.add_argument("--hidden", type=int, default=256)
    args = p.parse_args()
    torch.manual_seed(9)
    x, edges, label = citation_graph(args.nodes, 5, 7)
    train = torch.rand(args.nodes) < 0.3
    model = GCN(x.shape[1], args.hidden, 7)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    for step in range(1, args.steps + 1):
        out = model(x, edges)
        loss = nn.functional.cross_entropy(out[train], label[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 30 == 0:
            accuracy = (out.argmax(1) == label)[~train].float().mean().item()
            print(f"step {step} loss {loss.item():.3f} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
