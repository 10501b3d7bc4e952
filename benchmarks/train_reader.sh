#!/bin/sh
# Train the reader that ships with mixrag, and put it into the package: train_reader.sh DATA OUT
# DATA as benchmarks/splits.py describes it; OUT is a new folder, or that of a run that was interrupted.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
data=$1
out=$2
# glibc returns large blocks to the system at once and takes them anew at the next layer: kept, a step is faster.
export MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TRIM_THRESHOLD_=10000000000 MALLOC_TOP_PAD_=500000000
python "$here/splits.py" "$data" "$out/splits"
mixrag index "$data/general/docs" "$data/medicine/docs" "$data/law/docs" "$data/pubmed/docs.jsonl" --store "$out/store"
# Clozes first, more of them of the documents in plain prose.
for domain in general law; do
    mixrag index "$data/$domain/docs" --store "$out/store-$domain"
done
clozes() {
    [ -e "$2" ] || mixrag clozes --store "$1" --out "$2" --number "$3"
}
clozes "$out/store-general" "$out/clozes-general.jsonl" 1600
clozes "$out/store-law" "$out/clozes-law.jsonl" 800
clozes "$out/store" "$out/clozes-all.jsonl" 2400
cat "$out/clozes-general.jsonl" "$out/clozes-law.jsonl" "$out/clozes-all.jsonl" > "$out/clozes.jsonl"
mixrag train "$out/clozes.jsonl" --dev "$out/splits/look.jsonl" --store "$out/store" --out "$out/clozed" \
    --adapter none --prompt "$here/reader.toml" --parts generator --rank 16 --learning-rate 1e-3 --epochs 1 \
    -k 1 --lexical 0.5 --max-answer-tokens 48 --evaluate 0 --evaluate-every 300 --keep last --dtype bfloat16 --compile
mixrag train "$out/splits/train.jsonl" --dev "$out/splits/look.jsonl" --store "$out/store" --out "$out/reader" \
    --model "$out/clozed" --parts generator,temperature --learning-rate 1e-3 -k 3 --lexical 0.5 \
    --objective em --e-step-every 3 --epochs 3 --skip 0.2 --max-answer-tokens 48 --evaluate-every 133 --evaluate 0 \
    --keep last --dtype bfloat16 --compile
python "$here/package_reader.py" "$out/reader"
