#!/bin/sh
# Index the bundled corpus and ask it a few questions: run.sh MIXRAG STORE
set -eu
mixrag=$1
store=$2
show() {
    printf '\n$ mixrag'
    printf ' %s' "$@"
    printf '\n'
    "$mixrag" "$@"
}
show index demo/corpus --store "$store"
show ask "What single dose of pelindrate does an adult of normal weight receive for lanter fever?" --store "$store"
show ask "How much did the Land Tribunal order Perran Hask to pay his sister in total?" --store "$store"
show ask "To what level did the Tarravoe Reserve lift its policy rate in September 2023?" --store "$store" --switch 1
show score "Which laboratory test proves that a patient has lanter fever?" "Morrick smear" --store "$store"
