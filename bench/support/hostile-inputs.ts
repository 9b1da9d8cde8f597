/**
 * Owns the corpus of inputs that somebody who writes SecretProviderClasses, documents or bytes on the
 * socket could choose to make parsing slow: as large as they can get through, and shaped for the worst
 * case of the parser they are meant for. Each must end in one answer; how is not this benchmark's matter.
 */
import { randomBytes } from 'node:crypto'
import { Lexer } from 'yaml'
import { MOUNT_METHOD, type WireMountRequest } from '../../src/rpc/contract.ts'
import type { Format } from '../../src/providers/sops/stores/store.ts'
import { mountRequest, sealedDocument } from './sops.ts'

/** One input. */
export interface HostileInput {
  /** Whose parser is meant, e.g. `parameters of aws`. */
  readonly group: string
  readonly name: string
  readonly provider: string
  /** A request, or the message bytes of one. */
  readonly send: WireMountRequest | Uint8Array
}

const KIB = 1024
/** A Kubernetes object is 1.5 MiB at most. */
const LARGEST_PARAMETER = 1400 * KIB
/** The receive limit is 4 MiB. */
const LARGEST_REQUEST = 4 * KIB * KIB - 4 * KIB

/** `unit` over and over, `bytes` long at most. */
function fill(unit: string, bytes: number): string {
  return unit.repeat(Math.floor(bytes / unit.length))
}

/** Numbered units, `bytes` long at most. */
function numbered(bytes: number, unit: (index: number) => string): string {
  const parts: string[] = []
  for (let [index, size] = [0, 0]; ; index += 1) {
    const part = unit(index)
    size += part.length
    if (size > bytes) return parts.join('')
    parts.push(part)
  }
}

/** Texts that are hard on readers of YAML, by name. */
const YAML: Readonly<Record<string, (bytes: number) => string>> = {
  'entries without end': (bytes) => numbered(bytes, (i) => `- objectName: name-${i}\n`),
  'entries with unknown fields': (bytes) => numbered(bytes, (i) => `- { objectName: n${i}, f${i}: x }\n`),
  'one entry with very many keys': (bytes) =>
    `- objectName: a\n${numbered(bytes - 20, (i) => `  key${i}: x\n`)}`,
  'the same name over and over': (bytes) => fill('- { objectName: same, path: /same }\n', bytes),
  'a flow list': (bytes) => `[${fill('a,', bytes - 2)}]`,
  'open brackets': (bytes) => fill('[', bytes),
  'open braces': (bytes) => fill('{a: ', bytes),
  'brackets, closed': (bytes) => '['.repeat(bytes / 2) + ']'.repeat(bytes / 2),
  'dashes, nested': (bytes) => fill('- ', bytes),
  'question marks': (bytes) => fill('? ', bytes),
  colons: (bytes) => fill(': ', bytes),
  'stairs of mappings': (bytes) => numbered(bytes, (i) => `${' '.repeat(i % 2000)}a:\n`),
  anchors: (bytes) => numbered(bytes, (i) => `- &a${i} x\n`),
  aliases: (bytes) => `- &a x\n${fill('- *a\n', bytes - 10)}`,
  'aliases of aliases': (bytes) => {
    const levels = numbered(bytes, (i) => `- &a${i + 1} [${fill(`*a${i},`, 60)}]\n`)
    return `- &a0 [x]\n${levels}`
  },
  'merges of merges': (bytes) =>
    `- &a0 { k: v }\n${numbered(bytes, (i) => `- &a${i + 1} { <<: [*a${i}, *a${i}] }\n`)}`,
  'one long plain scalar': (bytes) => `- objectName: ${fill('x', bytes - 20)}`,
  'a plain scalar of many lines': (bytes) => `- objectName: x\n${fill('   y\n', bytes - 20)}`,
  'a quoted scalar of many lines': (bytes) => `- objectName: "${fill('y\n\n  ', bytes - 30)}"`,
  'a folded scalar': (bytes) => `- objectName: >\n${fill('    y\n\n', bytes - 30)}`,
  escapes: (bytes) => `- objectName: "${fill('\\u0041', bytes - 30)}"`,
  'an open quote': (bytes) => `- objectName: "${fill('a', bytes - 30)}`,
  comments: (bytes) => fill('# c\n', bytes),
  'blank lines': (bytes) => fill('\n', bytes),
  spaces: (bytes) => fill(' ', bytes),
  tabs: (bytes) => fill('\t', bytes),
  'carriage returns': (bytes) => fill('a\r', bytes),
  documents: (bytes) => fill('---\n', bytes),
  directives: (bytes) => fill('%TAG ! x\n', bytes),
  tags: (bytes) => fill('- !!binary x\n', bytes),
  'a long number': (bytes) => `- objectName: ${fill('9', bytes - 20)}`,
  'a long date': (bytes) => `- objectName: 2001-01-01${fill('0', bytes - 30)}`,
  nulls: (bytes) => fill('\0', bytes),
  'byte order marks': (bytes) => fill('\uFEFF', bytes / 3),
}

/** Tokens that the readers of parameters let through, less than one line of any text. */
const TOKENS_LET_THROUGH = 19_900

/** As much of a YAML text as has no more tokens than are let through: what takes longest of all that is read. */
function letThrough(text: string): string {
  let tokens = 0
  let end = 0
  for (const lexeme of new Lexer().lex(text)) {
    if ((tokens += 1) > TOKENS_LET_THROUGH) break
    // Three of them are marks without a character in the text.
    if (!['\u0002', '\u0018', '\u001F'].includes(lexeme)) end += lexeme.length
  }
  return text.slice(0, text.lastIndexOf('\n', end) + 1 || end)
}

/** Parameters that a dialect needs before it looks at its objects. */
const BESIDE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  sops: { sopsFormat: 'yaml', sopsDocument: 'a: b\n' },
  aws: { region: 'eu-central-1' },
  azure: { keyvaultName: 'kv', tenantId: '00000000-0000-4000-8000-000000000000' },
  gcp: {},
  vault: { roleName: 'r', vaultAddress: 'https://vault.example' },
  openbao: { roleName: 'r', openbaoAddress: 'https://bao.example' },
}

/** The parameter that lists what to mount, where it is not `objects`. */
const LISTS: Readonly<Record<string, string>> = { gcp: 'secrets', gke: 'secrets', keyferry: 'files' }

function parameterInputs(provider: string): readonly HostileInput[] {
  const group = `parameters of ${provider}`
  const beside = BESIDE[provider] ?? {}
  const one = (name: string, parameters: Readonly<Record<string, string>>): HostileInput => ({
    group,
    name,
    provider,
    send: mountRequest({ parameters: { ...beside, ...parameters } }),
  })
  const list = (text: string): Readonly<Record<string, string>> => ({
    [LISTS[provider] ?? 'objects']: text,
  })
  return [
    ...Object.entries(YAML).flatMap(([name, make]) => [
      one(`${name}, 250 KiB`, list(make(250 * KIB))),
      one(`${name}, 1.4 MiB`, list(make(LARGEST_PARAMETER))),
      one(`${name}, all that is let through`, list(letThrough(make(250 * KIB)))),
    ]),
    one('a JMESPath of brackets', list(jmesPath(fill('[', 60 * KIB)))),
    one('a JMESPath of pipes', list(jmesPath(fill('a|', 60 * KIB)))),
    one('a JMESPath of nots', list(jmesPath(`${fill('!', 60 * KIB)}a`))),
    one('a JMESPath of literals', list(jmesPath(fill('`1`||', 60 * KIB)))),
    one('unknown parameters without end', {
      ...list('- objectName: a\n'),
      ...Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`sopsDocumen${i}`, 'x'])),
    }),
  ]
}

function jmesPath(path: string): string {
  return JSON.stringify([
    { objectName: 'a', objectType: 'secretsmanager', jmesPath: [{ path, objectAlias: 'b' }] },
  ])
}

/** Documents of one format that are hard on its reader. */
const DOCUMENTS: Readonly<
  Record<Exclude<Format, 'binary'>, Readonly<Record<string, (bytes: number) => string>>>
> = {
  yaml: YAML,
  json: {
    'open brackets': (bytes) => fill('[', bytes),
    'nested objects': (bytes) => `${fill('{"a":', bytes / 2)}1${fill('}', bytes / 10)}`,
    'very many keys': (bytes) => `{${numbered(bytes - 10, (i) => `"k${i}":1,`)}"z":1}`,
    'one key over and over': (bytes) => `{${fill('"k":1,', bytes - 10)}"k":1}`,
    'a long number': (bytes) => `{"a":${fill('9', bytes - 10)}}`,
    'a long exponent': (bytes) => `{"a":1e${fill('9', bytes - 10)}}`,
    escapes: (bytes) => `{"a":"${fill('\\u0000', bytes - 12)}"}`,
    'a flat list': (bytes) => `{"a":[${fill('1,', bytes - 12)}1]}`,
  },
  dotenv: {
    lines: (bytes) => numbered(bytes, (i) => `K${i}=x\n`),
    'lines without value': (bytes) => fill('a\n', bytes),
    'one long line': (bytes) => `A=${fill('x', bytes - 2)}`,
    'escaped line feeds': (bytes) => `A=${fill('\\n', bytes - 2)}`,
    'metadata without end': (bytes) => numbered(bytes, (i) => `sops_age__list_${i}__map_enc=x\n`),
  },
  ini: {
    sections: (bytes) => numbered(bytes, (i) => `[s${i}]\n`),
    'one section over and over': (bytes) => fill('[s]\na=b\n', bytes),
    keys: (bytes) => `[s]\n${numbered(bytes - 5, (i) => `k${i}=x\n`)}`,
    comments: (bytes) => fill('; c\n', bytes),
    continuations: (bytes) => `[s]\na=${fill('x\\\n', bytes - 10)}`,
    'open brackets': (bytes) => fill('[', bytes),
  },
}

const INLINE_BYTES = 512 * KIB

/** YAML documents that are as large as the limits of nodes and aliases allow. */
const LET_THROUGH: Readonly<Record<string, string>> = {
  'nodes up to the limit, a list': `a:\n${numbered(INLINE_BYTES, (i) => (i < 19_900 ? `- x${i}\n` : ''.padEnd(INLINE_BYTES)))}`,
  'nodes up to the limit, mappings': numbered(INLINE_BYTES, (i) =>
    i < 9900 ? `k${i}:\n  a: x\n` : ''.padEnd(INLINE_BYTES),
  ),
  'nodes up to the limit, a flow list': `a: [${fill('x,', 39_800)}]\n`,
  'nodes up to the limit, a flow mapping': `a: {${numbered(INLINE_BYTES - 9, (i) => (i < 19_900 ? `k${i}: x,` : ''.padEnd(INLINE_BYTES)))}}\n`,
  'nodes up to the limit, below each other': numbered(INLINE_BYTES, (i) =>
    i < 19_000 ? `${' '.repeat(i % 60)}k${i}:\n` : ''.padEnd(INLINE_BYTES),
  ),
}

/** What stands below `sops:` in a document, badly. */
const METADATA: Readonly<Record<string, () => unknown>> = {
  'very many age keys': () => ({ age: Array.from({ length: 8000 }, () => ({ recipient: 'x', enc: 'y' })) }),
  'age keys of junk': () => ({
    age: Array.from({ length: 24 }, () => ({
      recipient: 'age1x',
      enc: `-----BEGIN AGE ENCRYPTED FILE-----\n${fill('QUFB\n', 15_000)}-----END AGE ENCRYPTED FILE-----\n`,
    })),
  }),
  'age stanzas of junk': () => ({
    age: Array.from({ length: 60 }, () => {
      const stanza = `-> X25519 ${fill('A', 43)}\n${fill('A', 43)}\n`
      const file = Buffer.from(`age-encryption.org/v1\n${stanza.repeat(8)}--- ${fill('A', 43)}\n`)
      const base64 = file.toString('base64').replaceAll(/.{64}/g, '$&\n')
      return {
        recipient: 'age1x',
        enc: `-----BEGIN AGE ENCRYPTED FILE-----\n${base64}\n-----END AGE ENCRYPTED FILE-----\n`,
      }
    }),
  }),
  'key groups': () => ({
    shamir_threshold: 16,
    key_groups: Array.from({ length: 16 }, () => ({ age: [{ recipient: 'x', enc: 'y' }] })),
  }),
  'PGP of junk': () => ({
    pgp: Array.from({ length: 20 }, () => ({
      fp: fill('A', 40),
      enc: `-----BEGIN PGP MESSAGE-----\n\n${fill('QUFBQUFBQUFBQUFB\n', 14_000)}=aaaa\n-----END PGP MESSAGE-----\n`,
    })),
  }),
  'a regular expression': () => ({ encrypted_regex: `^(${fill('(a|aa)*', 900)})*$`, age: [] }),
  'a regular expression of counts': () => ({
    unencrypted_regex: '((((a{1,30}){1,30}){1,30}){1,30})',
    age: [],
  }),
}

function documentInputs(): readonly HostileInput[] {
  const group = 'SOPS documents'
  const one = (name: string, sopsFormat: string, sopsDocument: string): HostileInput => ({
    group,
    name: `${sopsFormat}: ${name}`,
    provider: 'sops',
    send: mountRequest({
      parameters: { sopsFormat, sopsDocument, objects: '- { objectName: a, path: /a }' },
    }),
  })
  return [
    ...Object.entries(DOCUMENTS).flatMap(([format, texts]) =>
      Object.entries(texts).map(([name, make]) => one(name, format, make(INLINE_BYTES - 64))),
    ),
    ...Object.entries(LET_THROUGH).map(([name, text]) => one(name, 'yaml', text)),
    ...Object.entries(METADATA).map(([name, make]) =>
      one(
        `metadata, ${name}`,
        'json',
        JSON.stringify({ a: 'x', sops: { version: '3.13.3', mac: 'x', ...(make() as object) } }),
      ),
    ),
  ]
}

/** Documents that are right and as large as they may be. */
async function rightDocuments(recipient: string): Promise<readonly HostileInput[]> {
  const many = new Map(Array.from({ length: 2400 }, (_, i) => [`k${i}`, Buffer.from('v')]))
  const one = new Map([['a', Buffer.from(randomBytes(200_000).toString('base64url'))]])
  const make = async (name: string, format: 'yaml' | 'json', values: ReadonlyMap<string, Buffer>) => ({
    group: 'SOPS documents',
    name: `${format}: right, ${name}`,
    provider: 'sops',
    send: mountRequest({
      parameters: { sopsFormat: format, sopsDocument: await sealedDocument(format, values, recipient) },
    }),
  })
  return Promise.all([
    make('2400 values', 'yaml', many),
    make('2400 values', 'json', many),
    make('one value of 270 KB', 'yaml', one),
    make('one value of 270 KB', 'json', one),
  ])
}

/** Requests that are hard before any dialect sees them. */
function requestInputs(): readonly HostileInput[] {
  const bare = mountRequest({ parameters: {} })
  const attributes = (name: string, text: string): HostileInput => ({
    group: 'requests',
    name: `attributes: ${name}`,
    provider: 'sops',
    send: { ...bare, attributes: text },
  })
  const secrets = (name: string, text: string): HostileInput => ({
    group: 'requests',
    name: `secrets: ${name}`,
    provider: 'sops',
    send: { ...bare, secrets: text },
  })
  const bytes = (name: string, send: Uint8Array): HostileInput => ({
    group: 'requests',
    name: `protobuf: ${name}`,
    provider: 'sops',
    send,
  })
  const tokens = (name: string, text: string): HostileInput => ({
    group: 'requests',
    name: `tokens: ${name}`,
    provider: 'sops',
    send: mountRequest({ parameters: {}, tokens: text }),
  })
  const largest = LARGEST_REQUEST
  return [
    attributes('open brackets', fill('[', largest)),
    attributes('nested objects', fill('{"a":', largest)),
    attributes('very many keys', `{${numbered(largest - 20, (i) => `"k${i}":"x",`)}"z":"x"}`),
    attributes('numbers for keys', `{${numbered(largest - 20, (i) => `"${i * 7}":"x",`)}"z":"x"}`),
    attributes('one key over and over', `{${fill('"k":"x",', largest - 20)}"k":"x"}`),
    attributes('escapes', `{"k":"${fill('\\u0041', largest - 40)}"}`),
    attributes('namespace key over and over', fill('"csi.storage.k8s.io/pod.namespace":"a', largest)),
    secrets('very many keys', `{${numbered(largest - 4 * KIB, (i) => `"k${i}":"x",`)}"z":"x"}`),
    secrets('one large value', `{"k":"${fill('x', largest - 4 * KIB)}"}`),
    tokens(
      'very many audiences',
      `{${numbered(1400 * KIB, (i) => `"a${i}":{"token":"x"},`)}"z":{"token":"x"}}`,
    ),
    tokens(
      'one large token',
      JSON.stringify({ aud: { token: fill('e.', 1400 * KIB), expirationTimestamp: '' } }),
    ),
    tokens(
      'nested payload',
      JSON.stringify({ aud: { token: `x.${Buffer.from(fill('[', KIB * KIB)).toString('base64url')}.x` } }),
    ),
    bytes('empty versions', Buffer.alloc(largest & ~1, Buffer.from([0x2a, 0x00]))),
    bytes('unknown fields', Buffer.alloc(largest & ~1, Buffer.from([0x78, 0x01]))),
    bytes('many attributes fields', Buffer.alloc(largest & ~1, Buffer.from([0x0a, 0x00]))),
    bytes('long varints', Buffer.alloc(largest, 0xff)),
    bytes('groups', Buffer.alloc(largest, 0x0b)),
    bytes('noise', randomBytes(largest)),
  ]
}

/** All of it. */
export async function hostileInputs(
  providers: readonly string[],
  recipient: string,
): Promise<readonly HostileInput[]> {
  return [
    ...requestInputs(),
    ...providers.flatMap(parameterInputs),
    ...documentInputs(),
    ...(await rightDocuments(recipient)),
  ]
}

/** The message bytes of an input. */
export function messageOf(send: HostileInput['send']): Uint8Array {
  return send instanceof Uint8Array ? send : MOUNT_METHOD.requestSerialize(send)
}
