"""
Text: find the messages on a topic
==================================

A hundred messages were filed under a topic, 1,900 were not filed at all, and more than a fifth of
them belong there too. The bag of words is a sparse matrix and stays one.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from pnsklearn import PUTrendClassifier
from pnsklearn.datasets import make_pu

# %%
# The messages are made up. Every word comes from the common vocabulary or, one time in six, from
# that of the message's topic; both vocabularies are long, with few frequent words.

VOCABULARY = np.array([f"word{i:04d}" for i in range(3000)])
rng = np.random.default_rng(0)
common, *topics = rng.dirichlet(np.full(len(VOCABULARY), 0.04), size=3)


def write(topic):
    words = rng.choice(VOCABULARY, rng.integers(15, 60), p=5 / 6 * common + 1 / 6 * topics[topic])
    return " ".join(words)


y = (rng.random(3000) < 0.3).astype(int)
messages = np.array([write(topic) for topic in y])
print(messages[0][:60], "...")

# %%
# A third is kept for the test. Of the others, 100 positives keep their label. For sparse data the
# first stage is the linear model; the second stage, trees, reads the sparse matrix too.

train, test, y_train, y_test = train_test_split(messages, y, test_size=1000, random_state=0)
rows, s, y_true = make_pu(np.arange(2000)[:, None], y_train, n_labeled=100, random_state=0)
train = train[rows[:, 0]]

model = make_pipeline(TfidfVectorizer(), PUTrendClassifier(random_state=0)).fit(train, s)
print(f"the matrix: {model[0].transform(train).shape}, {model[0].transform(train).nnz} entries")
print(f"on the topic, of the unlabeled: {model[-1].class_prior_:.1%} estimated")
print(f"                                 {y_true[s == 0].mean():.1%} in truth")

# %%
# Beside models that take the unlabeled for negatives, and one that knows all labels:

models = {
    "PUTrendClassifier": model,
    "logistic regression": make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(train, s),
    "the same, balanced": make_pipeline(
        TfidfVectorizer(), LogisticRegression(class_weight="balanced")
    ).fit(train, s),
    "the same, all labels": make_pipeline(
        TfidfVectorizer(), LogisticRegression(class_weight="balanced")
    ).fit(train, y_true),
}
print(f"{'':22}accuracy    F1")
for name, fitted in models.items():
    predicted = fitted.predict(test)
    print(f"{name:22}{accuracy_score(y_test, predicted):8.3f}{f1_score(y_test, predicted):8.3f}")

# %%
# The probabilities of the messages kept for the test, by what they are. Only the words of the
# training are known to the vectoriser; the same pipeline takes any new message.

# Picture: Histogram of the predicted probabilities. Messages not on the topic are below
#   a half, nearly all on the topic above.
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
positive = model.predict_proba(test)[:, 1]
for label, name in ((1, "on the topic"), (0, "not")):
    ax.hist(positive[y_test == label], bins=np.linspace(0, 1, 41), alpha=0.6, label=name)
ax.set(xlabel="Predicted probability", ylabel="Messages", yscale="log")
ax.legend()
