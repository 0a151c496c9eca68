# SPDX-License-Identifier: Apache-2.0
#
# bash completion for cohort. What there is to complete comes from the binary's own --help, which is made of its table of commands and
# options: a new command or option needs nothing here. Ids of members come from the running agent.

_cohort_members()
{
    local i control=()
    for ((i = 2; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == --control ]] && control=(--control "${COMP_WORDS[i + 1]}")
        [[ ${COMP_WORDS[i]} == --control && ${COMP_WORDS[i + 1]} == = ]] && control=(--control "${COMP_WORDS[i + 2]}")
    done
    "$_cohort_binary" members "${control[@]}" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

# The line of --help about an option, "--name" or "-x".
_cohort_option()
{
    if [[ $1 == --* ]]; then
        grep -E -- "^  (-., |    )$1([][ =]|\$)" <<<"$_cohort_help"
    else
        grep -E -- "^  $1, " <<<"$_cohort_help"
    fi
}

# What the value of an option is called; empty for a flag.
_cohort_value()
{
    sed -n 's/^  \(-., \|    \)--[a-z-]*\( \|\[=\)\([A-Z][A-Z:|0-9]*\)\(\]\| \).*/\3/p' <<<"$1"
}

# Candidates for something called $1, described by the line $2 of --help.
_cohort_offer()
{
    local choices
    choices=$(sed -n 's/.* \[\([a-z|-]*\)\]$/\1/p' <<<"$2")
    if [[ -n $choices ]]; then
        COMPREPLY=($(compgen -W "${choices//|/ }" -- "$cur"))
        return
    fi
    case $1 in
    *FILE* | PATH) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    DIR) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur")) ;;
    ID) COMPREPLY=($(compgen -W "$(_cohort_members)" -- "$cur")) ;;
    GROUP) COMPREPLY=($(compgen -g -- "$cur")) ;;
    [a-z]*) COMPREPLY=($(compgen -W "${1//|/ }" -- "$cur")) ;;
    esac
}

# How many operands stand before the word under the cursor.
_cohort_operands()
{
    local i count=0
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == = ]]; then
            ((i++))
        elif [[ ${COMP_WORDS[i]} == -?* ]]; then
            local line
            line=$(_cohort_option "${COMP_WORDS[i]}")
            [[ -n $(_cohort_value "$line") && $line != *'[='* && ${COMP_WORDS[i + 1]} != = ]] && ((i++))
        else
            ((count++))
        fi
    done
    echo "$count"
}

_cohort()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} _cohort_help _cohort_binary=${COMP_WORDS[0]} line value
    COMPREPLY=()
    type -P "$_cohort_binary" >/dev/null || _cohort_binary=cohort
    if ((COMP_CWORD == 1)); then
        local commands
        commands=$("$_cohort_binary" --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
        COMPREPLY=($(compgen -W "$commands --help --version" -- "$cur"))
        return
    fi
    _cohort_help=$("$_cohort_binary" "${COMP_WORDS[1]}" --help 2>/dev/null) || return
    if [[ $cur == = ]]; then # --name=|
        cur=
    elif [[ $prev == = ]]; then # --name=va|
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $prev == -?* ]]; then
        line=$(_cohort_option "$prev")
        [[ $line == *'[='* ]] && prev= # its value only comes after '='
    fi
    if [[ $prev == -?* ]]; then
        line=$(_cohort_option "$prev")
        value=$(_cohort_value "$line")
        if [[ -n $value ]]; then
            _cohort_offer "$value" "$line"
            return
        fi
    fi
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$(sed -n 's/^  \(-., \|    \)\(--[a-z-]*\).*/\2/p' <<<"$_cohort_help")" -- "$cur"))
        return
    fi
    local operands
    read -ra operands <<<"$(sed -n '1s/.*\[OPTIONS\]//p' <<<"$_cohort_help")"
    value=${operands[$(_cohort_operands)]}
    _cohort_offer "${value//[\[\]]/}" ""
}

complete -F _cohort cohort
