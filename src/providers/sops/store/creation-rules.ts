/** Owns `.sops.yaml`: which recipients and which encryption rule a new document gets (sops B1, note). */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { RE2JS } from 're2js'
import { parseDocument } from 'yaml'
import { yamlQuoted } from '../write/emit/yaml.ts'
import type { Encryption } from '../write/encryption-rule.ts'
import { WriteError } from '../write/error.ts'

export const CREATION_RULES_FILE = '.sops.yaml'
const MAX_BYTES = 64 * 1024

/** The rules by which we encrypt. The two comment rules need comments, which our input does not have. */
const RULE_NAMES = ['unencrypted_suffix', 'encrypted_suffix', 'unencrypted_regex', 'encrypted_regex'] as const

/** Settings of a rule that a document of ours can follow; `path_regex` only chooses the rule. */
const KNOWN = new Set<string>(['path_regex', 'age', 'mac_only_encrypted', ...RULE_NAMES])

function broken(what: string, remedy = `Edit ${CREATION_RULES_FILE} in the root of the store.`): never {
  throw new WriteError('usage', `${CREATION_RULES_FILE}: ${what}`, remedy)
}

function textOf(rule: ReadonlyMap<unknown, unknown>, name: string): string | undefined {
  const value = rule.get(name)
  if (value === undefined || value === null) return undefined
  return typeof value === 'string' ? value : broken(`"${name}" is no text`)
}

function recipientsOf(value: unknown): readonly string[] {
  const items: readonly unknown[] = Array.isArray(value) ? value : [value]
  return items.flatMap((item) => {
    if (typeof item !== 'string') return broken('"age" is neither a text nor a list of texts')
    return item
      .split(',')
      .map((one) => one.trim())
      .filter((one) => one !== '')
  })
}

function matches(rule: ReadonlyMap<unknown, unknown>, relativePath: string): boolean {
  const pattern = textOf(rule, 'path_regex')
  if (pattern === undefined || pattern === '') return true
  try {
    return RE2JS.compile(pattern).matcher(relativePath).find()
  } catch {
    return broken('a "path_regex" does not compile as RE2')
  }
}

function creationRule(rule: ReadonlyMap<unknown, unknown>): Encryption {
  for (const name of rule.keys()) {
    if (typeof name !== 'string' || !KNOWN.has(name)) {
      broken(
        `the rule has "${String(name)}", and Keyferry writes age recipients only`,
        'Write documents of this rule with the stock sops tool; Keyferry mounts them all the same.',
      )
    }
  }
  const recipients = [...new Set(recipientsOf(rule.get('age') ?? []))]
  if (recipients.length === 0) broken('the rule names no age recipient')
  const chosen = RULE_NAMES.flatMap((kind) => {
    const text = textOf(rule, kind)
    return text === undefined || text === '' ? [] : [{ kind, text }]
  })
  if (chosen.length > 1) broken('the rule has more than one of the encryption rules')
  const macOnly = rule.get('mac_only_encrypted') ?? false
  if (typeof macOnly !== 'boolean') return broken('"mac_only_encrypted" is neither true nor false')
  return {
    recipients,
    rule: chosen[0] ?? { kind: 'unencrypted_suffix', text: '_unencrypted' },
    macOnlyEncrypted: macOnly,
  }
}

/**
 * The first creation rule that matches, as the stock tool chooses it.
 * @param text content of `.sops.yaml`
 * @param relativePath path of the document below the root
 * @throws WriteError `usage` when the file is broken or no rule matches.
 */
export function findCreationRule(text: string, relativePath: string): Encryption {
  const document = parseDocument(text, { schema: 'core', prettyErrors: false })
  if (document.errors.length > 0) broken('it is no valid YAML')
  const content: unknown = document.toJS({ mapAsMap: true, maxAliasCount: 100 })
  const rules: unknown = content instanceof Map ? content.get('creation_rules') : undefined
  if (!Array.isArray(rules)) broken('there is no list "creation_rules"')
  for (const rule of rules as readonly unknown[]) {
    if (!(rule instanceof Map)) broken('a creation rule is no mapping')
    else if (matches(rule, relativePath)) return creationRule(rule)
  }
  return broken(`no rule matches ${relativePath}`, 'Add a rule without "path_regex" at the end.')
}

/** The creation rule for a document of the store at `root`. @throws WriteError */
export async function readCreationRule(root: string, relativePath: string): Promise<Encryption> {
  const path = join(root, CREATION_RULES_FILE)
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new WriteError(
      'not-found',
      `${root} is no store: it has no ${CREATION_RULES_FILE}`,
      'Run `keyferry secret init`, or name the store with --root.',
    )
  })
  try {
    const { size } = await handle.stat()
    if (size > MAX_BYTES) broken('it is larger than 64 KiB')
    return findCreationRule(await handle.readFile('utf8'), relativePath)
  } finally {
    await handle.close()
  }
}

/** Text of a new `.sops.yaml` whose one rule encrypts everything to `recipients`. */
export function creationRulesText(recipients: readonly string[]): string {
  return [
    '# Which keys new documents of this directory are encrypted to. Read by `keyferry secret` and, when run',
    '# inside this directory, by the stock sops tool. After a change: `keyferry secret rekey`.',
    'creation_rules:',
    '    - age:',
    ...recipients.map((recipient) => `          - ${yamlQuoted(recipient)}`),
    '',
  ].join('\n')
}
