/** Owns the hostile corpus: inputs that are small to send and meant to be dear to read (T14 to T17). */
import type { SopsNode } from '../support/sops-node.ts'

type Parameters = Readonly<Record<string, string>>

const lines = (count: number, line: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => line(index)).join('\n')

/** Ten levels of ten aliases each: 10^10 nodes when expanded. */
const LAUGHS = lines(10, (level) =>
  level === 0
    ? 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]'
    : `a${level}: &a${level} [${Array.from({ length: 10 }, () => `*a${level - 1}`).join(', ')}]`,
)
const MERGES = lines(12, (level) =>
  level === 0
    ? 'm0: &m0 {a: 1, b: 2}'
    : `m${level}: &m${level}\n  <<: [${Array.from({ length: 10 }, () => `*m${level - 1}`).join(', ')}]\n  k${level}: 1`,
)
const EVIL_TEXT = `${'a'.repeat(5000)}!`

const yaml = (sopsDocument: string): Parameters => ({ sopsFormat: 'yaml', sopsDocument })
const json = (sopsDocument: string): Parameters => ({ sopsFormat: 'json', sopsDocument })
const objects = (text: string): Parameters => ({ sopsFile: 'shop/db.yaml', objects: text })

/** A document of the writer with other metadata after its own. */
function withMetadata(document: string, change: (metadata: Record<string, unknown>) => void): Parameters {
  const parsed = JSON.parse(document) as { sops: Record<string, unknown> }
  change(parsed.sops)
  return { ...json(JSON.stringify(parsed)), objects: '[{objectName: a, path: /user}]' }
}

/** A document of the writer with another token in the place of its user. */
function withToken(document: string, token: string): Parameters {
  const changed = { ...(JSON.parse(document) as object), user: token }
  return { ...json(JSON.stringify(changed)), objects: '[{objectName: a, path: /user}]' }
}

/** An age file whose header asks for `stanza`. */
function ageFile(stanzas: string): string {
  const body = Buffer.from(`age-encryption.org/v1\n${stanzas}\n--- ${'A'.repeat(43)}\n${'x'.repeat(64)}`)
  const wrapped = (body.toString('base64').match(/.{1,64}/g) ?? []).join('\n')
  return `-----BEGIN AGE ENCRYPTED FILE-----\n${wrapped}\n-----END AGE ENCRYPTED FILE-----\n`
}

const SALT = 'A'.repeat(22)
const BODY = 'A'.repeat(43)

/** The corpus: parameters of `provider: sops` under the name of the trick. None of them may mount. */
export async function corpus(node: SopsNode): Promise<ReadonlyMap<string, Parameters>> {
  const good = await node.sealed({ user: 'app', [EVIL_TEXT.slice(0, 900)]: 'x' }, ['shop/web'], 'json')
  const age = (enc: string): Parameters =>
    withMetadata(good, (metadata) => (metadata['age'] = [{ recipient: 'age1x', enc }]))
  const many = (name: string, count: number, entry: unknown): Parameters =>
    withMetadata(good, (metadata) => (metadata[name] = Array.from({ length: count }, () => entry)))
  const rule = (name: string, text: string): Parameters =>
    withMetadata(good, (metadata) => {
      delete metadata['unencrypted_suffix']
      metadata[name] = text
    })
  return new Map<string, Parameters>([
    ['YAML: a billion laughs', yaml(LAUGHS)],
    ['YAML: a billion merges', yaml(MERGES)],
    ['YAML: an anchor in itself', yaml('a: &a [*a, *a]')],
    ['YAML: 200 000 open lists', yaml('['.repeat(200_000))],
    ['YAML: 20 000 open mappings', yaml('{a: '.repeat(20_000))],
    ['YAML: 30 000 levels of indentation', yaml(lines(600, (level) => `${' '.repeat(level)}a:`))],
    ['YAML: 20 000 nested block lists on one line', yaml('- '.repeat(20_000))],
    ['YAML: 60 000 items', yaml(lines(60_000, () => '- a'))],
    ['YAML: 40 000 keys', yaml(lines(40_000, (index) => `k${index}: 1`))],
    ['YAML: 30 000 documents', yaml(lines(30_000, () => '---\na: 1'))],
    ['YAML: 100 000 anchors', yaml(lines(60_000, (index) => `- &a${index} 1`))],
    ['YAML: half a megabyte of blanks', yaml(`a:${' '.repeat(500_000)}b`)],
    ['YAML: half a megabyte of line feeds', yaml(`a: "${'\n'.repeat(500_000)}"`)],
    ['YAML: half a megabyte of comments', yaml(lines(100_000, () => '#a'))],
    ['YAML: a plain scalar of many lines', yaml(`a: ${lines(60_000, () => '  b')}`)],
    ['YAML: quotes that never end', yaml(`a: "${'\\x41'.repeat(100_000)}`)],
    ['YAML: question marks', yaml('? '.repeat(60_000))],
    ['YAML: colons', yaml(':'.repeat(400_000))],
    ['YAML: exclamation marks', yaml('!'.repeat(400_000))],
    ['YAML: a long number', yaml(`a: ${'9'.repeat(400_000)}`)],
    ['YAML: a long sexagesimal', yaml(`a: ${'1:'.repeat(200_000)}1`)],
    ['YAML: a long timestamp', yaml(`a: 2001-12-14t21:59:43.${'1'.repeat(400_000)}Z`)],
    [
      'YAML: tags of other languages',
      yaml('a: !!python/object/apply:os.system ["id"]\nb: !!js/function "x"'),
    ],
    ['JSON: 200 000 open lists', json('['.repeat(200_000))],
    ['JSON: 50 000 nested objects', json(`${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`)],
    ['JSON: 100 000 items', json(`{"a":[${'1,'.repeat(100_000)}1]}`)],
    ['JSON: a long number', json(`{"a":${'9'.repeat(400_000)}}`)],
    ['JSON: a large exponent', json('{"a":1e999999999}')],
    ['JSON: a long string of escapes', json(`{"a":"${'\\u0041'.repeat(80_000)}"}`)],
    ['JSON: one key 20 000 times', json(`{${'"a":1,'.repeat(20_000)}"a":1}`)],
    ['JSON: three megabytes', json(`{"a":"${'x'.repeat(3_000_000)}"}`)],
    ['base64: three megabytes', { sopsFormat: 'yaml', sopsDocumentBase64: 'QUFB'.repeat(750_000) }],
    ['dotenv: 40 000 lines', { sopsFormat: 'dotenv', sopsDocument: lines(40_000, (index) => `K${index}=1`) }],
    ['INI: 40 000 sections', { sopsFormat: 'ini', sopsDocument: lines(40_000, (index) => `[s${index}]`) }],
    ['INI: 100 000 brackets', { sopsFormat: 'ini', sopsDocument: '['.repeat(400_000) }],
    ['objects: a billion laughs', objects(LAUGHS)],
    ['objects: 100 000 open lists', objects('['.repeat(100_000))],
    ['objects: 30 000 entries', objects(lines(30_000, (index) => `- {objectName: f${index}, path: /user}`))],
    ['objects: a deep pointer', objects(`[{objectName: a, path: "${'/a'.repeat(100_000)}"}]`)],
    ['objects: a pointer of tildes', objects(`[{objectName: a, path: "/${'~0'.repeat(100_000)}"}]`)],
    ['objects: brackets', objects(`[{objectName: a, path: '${'["a"]'.repeat(50_000)}'}]`)],
    ['objects: a long name', objects(`[{objectName: "${'a/'.repeat(100_000)}b", path: /user}]`)],
    ['a path of dots', { sopsFile: `${'../'.repeat(100_000)}etc/passwd` }],
    [
      '60 000 parameters that look like ours',
      Object.fromEntries(Array.from({ length: 60_000 }, (_, index) => [`sopsDocumen${index}`, 'x'])),
    ],
    ['regex: nested repetition', rule('encrypted_regex', '^(a+)+$')],
    ['regex: alternation', rule('encrypted_regex', '^(a|a|aa)*b$')],
    ['regex: counted repetition', rule('encrypted_regex', `(${'a{1,1000}'.repeat(50)})`)],
    ['regex: counted repetition of itself', rule('encrypted_regex', '((a{0,100}){0,100}){0,100}')],
    ['regex: a kilobyte of groups', rule('encrypted_regex', '('.repeat(1000))],
    ['regex: a hundred kilobytes', rule('encrypted_regex', 'a?'.repeat(50_000))],
    [
      'metadata: a long MAC',
      withMetadata(good, (metadata) => (metadata['mac'] = `ENC[${'A'.repeat(300_000)}`)),
    ],
    [
      'metadata: a MAC of commas',
      withMetadata(good, (metadata) => (metadata['mac'] = `ENC[AES256_GCM,${'data:,'.repeat(50_000)}]`)),
    ],
    ['metadata: 10 000 age keys', many('age', 10_000, { recipient: 'age1x', enc: 'x' })],
    ['metadata: 5 000 key groups', many('key_groups', 5_000, { age: [{ recipient: 'age1x', enc: 'x' }] })],
    [
      'metadata: a Shamir threshold of 10^9',
      withMetadata(good, (metadata) => (metadata['shamir_threshold'] = 1_000_000_000)),
    ],
    ['age: a scrypt stanza of 2^30', age(ageFile(`-> scrypt ${SALT} 30\n${BODY}`))],
    ['age: 200 stanzas', age(ageFile(lines(200, () => `-> X25519 ${BODY}\n${BODY}`)))],
    ['age: armor without end', age(`-----BEGIN AGE ENCRYPTED FILE-----\n${'QUFB\n'.repeat(60_000)}`)],
    [
      'pgp: armor without end',
      many('pgp', 1, { fp: 'x', enc: `-----BEGIN PGP MESSAGE-----\n\n${'QUFB\n'.repeat(60_000)}` }),
    ],
    ['a value token of commas', withToken(good, `ENC[AES256_GCM,${'iv:,'.repeat(50_000)}]`)],
    ['a value token without end', withToken(good, `ENC[AES256_GCM,data:${'A'.repeat(400_000)}`)],
  ])
}

const POLLUTION = '{"polluted": "yes", "optional": true, "shared": true, "allowEveryone": true}'

/** Inputs that would change Object.prototype where keys are put into plain objects or merged (T16). */
export async function pollution(node: SopsNode): Promise<ReadonlyMap<string, Parameters>> {
  const good = await node.sealed({ user: 'app' }, ['shop/web'], 'json')
  const keys = ['__proto__', 'constructor', 'prototype']
  const withKey = (key: string): string => good.replace('{', `{${JSON.stringify(key)}: ${POLLUTION},`)
  const deep = `{"constructor": {"prototype": ${POLLUTION}}, "__proto__": {"__proto__": ${POLLUTION}}}`
  const sealed = (text: string): string => good.replace('{', `${text.slice(0, -1)},`)
  return new Map<string, Parameters>([
    ...keys.flatMap((key): [string, Parameters][] => [
      [`JSON document with ${key}`, json(withKey(key))],
      [
        `YAML document with ${key}`,
        yaml(`${key}: ${POLLUTION}\n<<: {${key}: ${POLLUTION}}\nsops: {${key}: ${POLLUTION}}`),
      ],
      [
        `dotenv document with ${key}`,
        { sopsFormat: 'dotenv', sopsDocument: `${key}=x\nsops_${key}__list_0__map_polluted=yes` },
      ],
      [
        `INI document with ${key}`,
        {
          sopsFormat: 'ini',
          sopsDocument: `[${key}]\npolluted = yes\n[sops]\n${key}__list_0__map_polluted = yes`,
        },
      ],
      [`objects with ${key}`, objects(`[{"objectName": "a", "path": "/user", "${key}": ${POLLUTION}}]`)],
      [`objects that are ${key}`, objects(`{"${key}": ${POLLUTION}}`)],
      [`a pointer to ${key}`, objects(`[{"objectName": "a", "path": "/${key}/polluted"}]`)],
      [`a format called ${key}`, { sopsFormat: key, sopsDocument: good }],
      [`metadata with ${key}`, json(good.replace('"sops":{', `"sops":{"${key}": ${POLLUTION},`))],
    ]),
    ['nested prototypes', json(deep)],
    ['nested prototypes before a real document', json(sealed(deep))],
  ])
}
