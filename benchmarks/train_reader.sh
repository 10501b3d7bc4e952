#!/bin/sh
# Train both readers that ship with mixrag, and put them into the package: train_reader.sh DATA OUT
# DATA as benchmarks/splits.py and benchmarks/reading_pairs.py describe it; OUT is a new folder, or that of a run that
# was interrupted.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
data=$1
out=$2
# glibc returns large blocks to the system at once and takes them anew at the next layer: kept, a step is faster.
export MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TRIM_THRESHOLD_=10000000000 MALLOC_TOP_PAD_=500000000
python "$here/splits.py" "$data" "$out/splits"
[ -e "$out/reading.jsonl" ] || python "$here/reading_pairs.py" "$data" "$out/reading.jsonl"
[ -e "$out/groups.jsonl" ] || python "$here/passage_groups.py" "$data" "$out/groups.jsonl"
python "$here/near_misses.py" "$out/groups.jsonl" "$out/near.jsonl"
mixrag index "$data/general/docs" "$data/medicine/docs" "$data/law/docs" "$data/pubmed/docs.jsonl" \
    "$data/finance/docs" --store "$out/store"
set --
for domain in general medicine law pubmed finance; do
    set -- "$@" "$out/splits/$domain-train.jsonl"
done
# The language model: the questions on sentences, the pairs with the passages that hold their answers, the empty answer
# of those that are retrieved and hold none, and near misses.
mixrag train "$out/reading.jsonl" "$out/near.jsonl" "$@" --dev "$out/splits/look.jsonl" \
    --store "$out/store" --out "$out/reader" --adapter none --prompt "$here/reader.toml" \
    --objective composite --empty-weight 0.5 --parts generator,temperature -k 3 --lexical 0.5 --rank 16 \
    --learning-rate 1e-3 --weight-decay 0 --epochs 1 --batch 32 --rows 2 --row-tokens 640 --max-answer-tokens 48 \
    --evaluate 0 --evaluate-every 200 --checkpoint-every 20 --keep last --compile
# The extractive reader: sentences and passages first, then with near misses.
python "$here/train_extractive.py" "$data" "$out/groups.jsonl" "$out/first" --set rank=24
python "$here/train_extractive.py" "$data" "$out/groups.jsonl" "$out/span" --start "$out/first" --near-misses \
    --reading 1 --limit 9000 --set rank=24 --set learning_rate=3e-4
python "$here/package_reader.py" "$out/reader" "$out/span"
