/** `keyferry convert` on hostile input: one clear error or a note, in bounded time, and never a value of it. */
import { describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { convertSources } from '../../src/commands/convert.ts'
import { notesText } from '../../src/commands/convert/notes.ts'
import { jsonReport, yamlStream } from '../../src/commands/convert/output.ts'

const convert = (text: string, flags = {}) => convertSources([{ file: 'in.yaml', text }], flags)

const STORE = `apiVersion: external-secrets.io/v1
kind: SecretStore
metadata: { name: main, namespace: shop }
spec: { provider: { gcpsm: { projectID: p } } }
---
`
const external = (
  spec: string,
  metadata = '{ name: db, namespace: shop }',
): string => `apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: ${metadata}
spec:
${spec}
`
const SPEC = `  secretStoreRef: { name: main }
  data: [{ secretKey: a, remoteRef: { key: k } }]`

/** Everything that a run writes anywhere. */
async function written(text: string, flags = {}): Promise<string> {
  const conversion = await convert(text, flags).catch((error: unknown) => error as Error)
  if (conversion instanceof Error) return conversion.message
  return yamlStream(conversion) + jsonReport(['in.yaml'], conversion) + notesText(conversion.notes)
}

describe('T15, T17 bombs', () => {
  it('a text of aliases to aliases is refused with its line', async () => {
    const levels = Array.from(
      { length: 12 },
      (_, level) => `a${level + 1}: &a${level + 1} [${Array(9).fill(`*a${level}`).join(', ')}]`,
    )
    const bomb = `a0: &a0 x\n${levels.join('\n')}\n`
    await expect(convert(STORE + bomb)).rejects.toThrow(
      /in\.yaml:\d+:\d+: this is not YAML: document contains excessive aliasing/,
    )
  })

  it('a text nested without end is refused', async () => {
    await expect(convert('['.repeat(200_000))).rejects.toThrow('exceeded max depth')
    await expect(convert(STORE + external(`  a: ${'{ b: '.repeat(5000)}`))).rejects.toThrow(
      'this is not YAML',
    )
  })

  it('an anchor that holds itself is refused', async () => {
    await expect(convert(`${STORE}a: &a [*a]\n`)).rejects.toThrow('anchor value contains itself')
  })

  it('a text larger than the bound is refused before it is read', async () => {
    await expect(convert('#'.repeat(16 * 1024 * 1024 + 1))).rejects.toThrow('is larger than 16 MiB')
  })

  it('more notes than anybody reads are refused', async () => {
    const data = Array.from({ length: 10_001 }, (_, n) => `  u${n}: x`).join('\n')
    await expect(convert(STORE + external(`${SPEC}\n${data}`))).rejects.toThrow('convert it in parts')
  })

  it('an entry that an alias repeats is read as often as it stands there', async () => {
    const { classes } = await convert(
      STORE +
        external(
          '  secretStoreRef: { name: main }\n  data:\n    - &d { secretKey: a, remoteRef: { key: k } }\n    - *d',
        ),
    )
    expect(classes[0]?.entries).toEqual([{ path: 'a', store: 'shop-main', key: 'k' }])
  })
})

describe('T16 names of prototypes', () => {
  it.each(['__proto__', 'constructor', 'prototype', 'hasOwnProperty', 'toString'])(
    '%s is a name like any other',
    async (name) => {
      const text =
        STORE.replace('name: main', `name: ${name}`) +
        external(
          `  secretStoreRef: { name: ${name} }\n  ${name}: { polluted: x }\n  data: [{ secretKey: ${name}, remoteRef: { key: ${name}, property: ${name} } }]`,
          `{ name: ${name}, namespace: shop }`,
        )
      const { classes, notes } = await convert(text)
      expect(notes.map(({ field }) => field)).toEqual([`spec.${name}`])
      expect(classes[0]?.entries).toMatchObject([{ path: name, key: name, property: name }])
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
    },
  )
})

describe('wrong types', () => {
  const WRONG = ['5', '[]', '{}', '""', 'null', '[[1]]', '{ a: { b: 1 } }', '!!binary aGk=', 'true', '.nan']
  const PLACES: Record<string, (wrong: string) => string> = {
    metadata: (wrong) => STORE + external(SPEC, wrong),
    spec: (wrong) => `${STORE}apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nspec: ${wrong}\n`,
    secretStoreRef: (wrong) =>
      STORE + external(`  secretStoreRef: ${wrong}\n  data: [{ secretKey: a, remoteRef: { key: k } }]`),
    data: (wrong) => STORE + external(`  secretStoreRef: { name: main }\n  data: ${wrong}`),
    item: (wrong) => STORE + external(`  secretStoreRef: { name: main }\n  data: [${wrong}]`),
    remoteRef: (wrong) =>
      STORE + external(`  secretStoreRef: { name: main }\n  data: [{ secretKey: a, remoteRef: ${wrong} }]`),
    dataFrom: (wrong) => STORE + external(`${SPEC}\n  dataFrom: [{ extract: ${wrong}, rewrite: ${wrong} }]`),
    target: (wrong) =>
      STORE + external(`${SPEC}\n  target: { template: ${wrong}, creationPolicy: ${wrong} }`),
    templateData: (wrong) => STORE + external(`${SPEC}\n  target: { template: { data: ${wrong} } }`),
    provider: (wrong) => STORE.replace('{ gcpsm: { projectID: p } }', wrong) + external(SPEC),
    settings: (wrong) => STORE.replace('{ projectID: p }', wrong) + external(SPEC),
    conditions: (wrong) =>
      STORE.replace('SecretStore', 'ClusterSecretStore').replace(
        'projectID: p } }',
        `projectID: p } }, conditions: ${wrong}`,
      ) + external(SPEC.replace('main', 'main, kind: ClusterSecretStore')),
    parameters: (wrong) =>
      `apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: { name: a }\nspec: { provider: aws, parameters: ${wrong} }\n`,
    objects: (wrong) =>
      `apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: { name: a }\nspec: { provider: azure, parameters: { objects: ${wrong} } }\n`,
    kes: (wrong) =>
      `apiVersion: kubernetes-client.io/v1\nkind: ExternalSecret\nmetadata: { name: a }\nspec: { backendType: vault, data: ${wrong}, dataFrom: ${wrong}, template: ${wrong} }\n`,
    namespaces: (wrong) =>
      `apiVersion: external-secrets.io/v1\nkind: ClusterExternalSecret\nmetadata: { name: a }\nspec: { namespaces: ${wrong}, externalSecretSpec: ${wrong} }\n`,
  }

  it.each(Object.keys(PLACES))('at %s make notes or one error, never a crash', async (place) => {
    for (const wrong of WRONG) {
      const text = await written(PLACES[place]?.(wrong) ?? '')
      expect(text.length).toBeGreaterThan(0)
      expect(text).not.toMatch(/undefined|\[object|TypeError/)
    }
  })
})

describe('T22 values', () => {
  const CANARY = 'canary-5c1d7'
  it.each([
    [
      'fake provider',
      STORE.replace(
        'gcpsm: { projectID: p }',
        `fake: { data: [{ key: k, value: ${CANARY}, valueMap: { a: ${CANARY} } }] }`,
      ) + external(SPEC),
    ],
    [
      'webhook headers',
      STORE.replace(
        'gcpsm: { projectID: p }',
        `webhook: { url: 'https://${CANARY}@x', headers: { Authorization: ${CANARY} } }`,
      ) + external(SPEC),
    ],
    [
      'headers of Vault',
      STORE.replace(
        'gcpsm: { projectID: p }',
        `vault: { server: 'https://v', headers: { X: ${CANARY} }, auth: { kubernetes: { role: r } } }`,
      ) + external(SPEC),
    ],
    [
      'addresses with credentials',
      `${STORE.replace('gcpsm: { projectID: p }', `vault: { server: 'https://user:${CANARY}@v:8200', auth: { kubernetes: { role: r } } }`) + external(SPEC)}---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: { name: v, namespace: shop }
spec: { provider: vault, parameters: { roleName: r, vaultAddress: 'https://user:${CANARY}@v', objects: '[{ objectName: a, secretPath: b, secretKey: c }]' } }
`,
    ],
    [
      'addresses with a query',
      STORE.replace(
        'gcpsm: { projectID: p }',
        `vault: { server: 'https://v:8200/?token=${CANARY}', auth: { kubernetes: { role: r } } }`,
      ) + external(SPEC),
    ],
    [
      'inline role ids',
      STORE.replace(
        'gcpsm: { projectID: p }',
        `vault: { server: 'https://v', auth: { appRole: { roleId: ${CANARY}, secretRef: { name: x } }, userPass: { username: ${CANARY} } } }`,
      ) + external(SPEC),
    ],
    ['unknown fields', STORE + external(`${SPEC}\n  password: ${CANARY}\n  inner: { a: [${CANARY}] }`)],
    [
      'templates that are listed',
      STORE +
        external(
          `${SPEC}\n  target: { template: { mergePolicy: Merge, data: { x: '{{ if .a }}${CANARY}{{ end }}' }, templateFrom: [{ literal: ${CANARY} }] } }`,
        ),
    ],
    [
      'labels and annotations',
      STORE + external(SPEC, `{ name: db, namespace: shop, annotations: { a: ${CANARY} } }`),
    ],
    [
      'manifests that kubectl keeps',
      STORE +
        external(
          SPEC,
          `{ name: db, namespace: shop, annotations: { kubectl.kubernetes.io/last-applied-configuration: '{"x":"${CANARY}"}' } }`,
        ),
    ],
    [
      'Secrets in the stream',
      `${STORE + external(SPEC)}---\napiVersion: v1\nkind: Secret\nmetadata: { name: x }\nstringData: { a: ${CANARY} }\n`,
    ],
    ['a broken document', `${STORE + external(SPEC)}---\na: [${CANARY}\n`],
  ])('of %s are never written', async (_what, text) => {
    expect(await written(text)).not.toContain(CANARY)
    expect(await written(text, { inlineStores: true })).not.toContain(CANARY)
  })
})

describe('what is written', () => {
  it('cannot be broken out of: names with line feeds, comment marks and document marks', async () => {
    const evil = 'x\n---\nkind: ClusterRoleBinding\n# '
    const object = {
      apiVersion: 'external-secrets.io/v1',
      kind: 'ExternalSecret',
      metadata: { name: evil, namespace: 'shop' },
      spec: {
        secretStoreRef: { name: 'main' },
        [evil]: 1,
        data: [{ secretKey: 'a', remoteRef: { key: 'k', property: `p\n---\nkind: Pod` } }],
      },
    }
    const conversion = await convert(`${STORE}${JSON.stringify(object)}\n`)
    const text = yamlStream(conversion)
    expect(text.split('\n').filter((line) => line === '---')).toHaveLength(1)
    expect(text).not.toMatch(/^kind: (?:ClusterRoleBinding|Pod)/m)
    expect(notesText(conversion.notes)).not.toMatch(/^---/m)
  })

  it('T11 an address in a key or project makes no class', async () => {
    const { classes, notes } = await convert(
      STORE.replace('projectID: p', "projectID: 'p/../../x@evil'") + external(SPEC),
    )
    expect(classes).toEqual([])
    expect(notes.map(({ message }) => message).join()).toContain('project is not a project')
  })
})

describe('texts that end a line where others read on', () => {
  // kubectl and the API server read YAML 1.1: to them these end a line, in quotes and in block scalars, too.
  const ENDS = ['\u0085', '\u2028', '\u2029']

  it.each([{}, { inlineStores: true }])('never stand in the YAML as they are (%j)', async (flags) => {
    for (const end of ENDS) {
      const item = (name: string) => JSON.stringify(`${name}${end}evil: 1`)
      const text =
        STORE +
        external(
          `  secretStoreRef: { name: main }
  target: { template: { mergePolicy: Merge, data: { t: ${JSON.stringify(`x${end}evil: {{ .a }}\n`)} } } }
  data: [{ secretKey: a, remoteRef: { key: ${item('k').replaceAll('\u0085', '')}, property: ${item('p')} } }]`,
          `{ name: ${item('n')}, namespace: shop }`,
        )
      const conversion = await convert(text, flags)
      expect(conversion.classes).toHaveLength(1)
      const stream = yamlStream(conversion)
      expect(stream).not.toMatch(/[\u0085\u2028\u2029]/)
      const [first] = parseAllDocuments(stream).map((document) => document.toJS() as unknown)
      expect(first).toMatchObject({ metadata: { name: `n${end}evil: 1` } })
      const files = (first as { spec: { parameters: { files: string } } }).spec.parameters.files
      expect(parse(files)).toMatchObject([
        { path: 'a', property: `p${end}evil: 1` },
        { path: 't', template: `x${end}evil: {{ a }}\n` },
      ])
    }
  })
})

describe('T1 rules', () => {
  it.each(['*', '**', 'sh*', 'a/b', 'Shop', 'x'.repeat(64)])(
    'are never made for the namespace %j, which is none',
    async (namespace) => {
      const metadata = `{ name: db, namespace: ${JSON.stringify(namespace)} }`
      const cluster = STORE.replace('SecretStore', 'ClusterSecretStore').replace(', namespace: shop', '')
      const spec = SPEC.replace('name: main', 'name: main, kind: ClusterSecretStore')
      const { classes, stores, notes } = await convert(cluster + external(spec, metadata))
      expect([classes, stores]).toEqual([[], []])
      expect(notesText(notes)).toContain('is no name of a namespace')
      const sound = await convert(cluster + external(spec))
      expect(yamlStream(sound)).toContain('namespaces: [shop]')
    },
  )
})
