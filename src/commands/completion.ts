/** Owns `keyferry completion`: shell completion, generated from the commands themselves. */
import type { Command, Option } from 'commander'

export type Shell = 'bash' | 'zsh' | 'fish'

/** A command with the words that lead to it, e.g. `/secret/put`. */
interface Entry {
  readonly path: string
  readonly command: Command
}

function entries(command: Command, path = ''): Entry[] {
  return [
    { path, command },
    ...command.commands.flatMap((child) => entries(child, `${path}/${child.name()}`)),
  ]
}

/** The names under which an option can be written. */
function namesOf({ short, long }: Option): string[] {
  return [short, long].filter((name) => name !== undefined)
}

function optionsOf(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command)
}

function wordsOf(command: Command): string {
  const choices = command.registeredArguments.flatMap((one) => one.argChoices ?? [])
  const children = command.commands.map((child) => child.name())
  return [...children, ...choices, ...optionsOf(command).flatMap(namesOf)].join(' ')
}

/** What bash and zsh both understand: `at` becomes the command so far, `list` the words that can follow. */
function body(root: Command, words: string, previous: string): string {
  const all = entries(root)
  const known = all.filter(({ path }) => path !== '').map(({ path }) => path)
  const values = all.flatMap(({ path, command }) =>
    optionsOf(command)
      .filter((option) => option.required)
      .map((option) => {
        const patterns = namesOf(option).map((name) => `${path}:${name}`)
        return `    ${patterns.join('|')}) list='${option.argChoices?.join(' ') ?? ''}' ;;`
      }),
  )
  return `  local at= list= word
  for word in ${words}; do
    case "$at/$word" in ${known.join('|')}) at="$at/$word" ;; esac
  done
  case "$at:${previous}" in
${values.join('\n')}
    *) case "$at" in
${all.map(({ path, command }) => `      '${path}') list='${wordsOf(command)}' ;;`).join('\n')}
    esac ;;
  esac`
}

const SCRIPTS: Readonly<Record<Shell, (root: Command) => string>> = {
  bash: (root) => `# source <(keyferry completion bash)
_keyferry() {
${body(root, '"${COMP_WORDS[@]:1:COMP_CWORD-1}"', '${COMP_WORDS[COMP_CWORD-1]}')}
  COMPREPLY=($(compgen -W "$list" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _keyferry keyferry
`,
  zsh: (root) => `#compdef keyferry
# source <(keyferry completion zsh)
_keyferry() {
${body(root, '"${words[@]:1:$((CURRENT-2))}"', '${words[CURRENT-1]}')}
  compadd -- \${=list} || _files
}
compdef _keyferry keyferry
`,
  fish: (root) =>
    `# keyferry completion fish | source\n${entries(root)
      .flatMap(fishLines)
      .map((line) => `complete -c keyferry ${line}\n`)
      .join('')}`,
}

function fishLines({ path, command }: Entry): string[] {
  const seen = path.split('/').filter(Boolean)
  const children = command.commands.map((child) => child.name())
  const here = [
    ...seen.map((name) => `__fish_seen_subcommand_from ${name}`),
    ...(children.length > 0 ? [`not __fish_seen_subcommand_from ${children.join(' ')}`] : []),
  ].join('; and ')
  const when = `-n '${here}'`
  return [
    ...command.commands.map(
      (child) => `${when} -f -a ${child.name()} -d ${quoted(child.summary() || child.description())}`,
    ),
    ...command.registeredArguments.flatMap((one) =>
      one.argChoices ? [`${when} -f -a '${one.argChoices.join(' ')}'`] : [],
    ),
    ...optionsOf(command).map((option) => {
      const names = namesOf(option).map((name) =>
        name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
      )
      const value = option.argChoices
        ? ` -x -a '${option.argChoices.join(' ')}'`
        : option.required
          ? ' -r'
          : ''
      return `${when} ${names.join(' ')}${value} -d ${quoted(option.description)}`
    }),
  ]
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

/** The script for a shell. */
export function completionScript(root: Command, shell: Shell): string {
  return SCRIPTS[shell](root)
}
