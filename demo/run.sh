#!/bin/sh
# Index the bundled corpus and ask it a few questions: run.sh MIXRAG STORE
set -eu
mixrag=$1
store=$2
show() {
    printf '\n$ mixrag'
    for word in "$@"; do
        case $word in
        *" "*) printf ' "%s"' "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$mixrag" "$@"
}
show index demo/corpus --store "$store"
show ask "Which bacterium was behind the Hesterlin cough epidemic of winter 2022?" --store "$store" --switch 1
show ask "What was the name of Rosamund Quill's boat?" --store "$store"
show ask "Who founded the Dunmarret Credit Union?" --store "$store" -k 10
show score "Who founded the Dunmarret Credit Union?" "Osric Penhallow" --store "$store"
cat <<'END'

The packaged model is small: with the reader that comes with it, it answers 53 of the 85 questions in
demo/pairs.jsonl exactly. Ask your own: mixrag ask "..." --store demo/store (--why takes an answer apart).
END
