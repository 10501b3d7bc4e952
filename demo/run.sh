#!/bin/sh
# Index the bundled corpus, ask it a few questions, and test how far the answers can be relied on: run.sh MIXRAG STORE
set -eu
mixrag=$1
store=$2
say() { printf '\n# %s\n' "$*"; }
show() {
    printf '$ mixrag'
    for word in "$@"; do
        case $word in
        *" "*) printf ' "%s"' "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$mixrag" "$@" || {
        code=$?
        [ $code -eq 4 ] || return $code
        echo "(exit code 4: no answer)"
    }
}
say "Thirty documents of an invented island: PDF, DOCX, HTML, Markdown, CSV and text."
show index demo/corpus --store "$store"
say "An answer with its page, and how likely it is right:"
show ask "Who is the medical director of Brackwater Hospital?" --store "$store"
say "A question that the documents nearly answer: there are licences of class A, B and C."
show ask "class D fishing licence fee" --store "$store"
say "A list:"
show ask "which judges heard Quill's case?" --store "$store"
say "What is no single phrase is answered by the sentences that say it:"
show ask "explain how to start a small claim" --store "$store"
say "The probability of an answer of your own, and of each passage as its source:"
show score "Who founded the Dunmarret Credit Union?" "Osric Penhallow" --store "$store"
say "The confidence from which on at least 70 % of the answers are right, with probability 95 % (some minutes):"
if show guarantee demo/pairs.jsonl --store "$store" --risk 0.3 --out "$store-guaranteed"; then
    show ask "Who is the medical director of Brackwater Hospital?" --store "$store" \
        --confidence "$store-guaranteed/confidence.json"
fi
cat <<'END'

Ask your own: mixrag ask "..." --store demo/store (--why takes an answer apart), or
mixrag chat --store demo/store; serve it with mixrag serve --store demo/store.
END
