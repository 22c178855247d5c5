"""The long runs behind docs/results, the claims of the five publications, and the pages made of them.

python -m reproduction.multiscale_gan     one family's runs; finished parts are kept
python -m reproduction.claims             docs/claims.md from docs/results/*.json
"""
