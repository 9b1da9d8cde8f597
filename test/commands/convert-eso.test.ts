/** What `keyferry convert` makes of objects of External Secrets Operator and kubernetes-external-secrets, field by field. */
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { convertSources } from '../../src/commands/convert.ts'
import { vaultPath } from '../../src/commands/convert/eso-vault.ts'
import { isPlainProperty } from '../../src/commands/convert/gjson.ts'
import { jsonReport, yamlStream } from '../../src/commands/convert/output.ts'

interface Made {
  /** Name → entries of `files`. */
  readonly files: Readonly<Record<string, unknown>>
  readonly stores: Readonly<Record<string, Record<string, unknown>>>
  /** `severity field: message` of each note. */
  readonly notes: readonly string[]
}

async function converted(text: string, flags = {}): Promise<Made> {
  const conversion = await convertSources([{ file: 'in.yaml', text }], flags)
  // What is written is YAML: it has to be possible to write it.
  yamlStream(conversion)
  const report = JSON.parse(jsonReport(['in.yaml'], conversion)) as {
    classes: { class: { metadata: { name: string }; spec: { parameters: { files: string } } } }[]
    configuration: { stores: Made['stores'] }
  }
  return {
    files: Object.fromEntries(
      report.classes.map((one) => [
        one.class.metadata.name,
        parse(one.class.spec.parameters.files, { schema: 'failsafe' }) as unknown,
      ]),
    ),
    stores: report.configuration.stores,
    notes: conversion.notes.map(({ severity, field, message }) => `${severity} ${field}: ${message}`),
  }
}

const object = (kind: string, name: string, spec: unknown, apiVersion = 'external-secrets.io/v1'): string =>
  `${JSON.stringify({ apiVersion, kind, metadata: { name, ...(!kind.startsWith('Cluster') && { namespace: 'shop' }) }, spec })}\n---\n`
const store = (provider: unknown, more = {}): string => object('SecretStore', 'main', { provider, ...more })
const AWS = store({ aws: { service: 'SecretsManager', region: 'eu-west-1' } })
const external = (spec: object, name = 'db', apiVersion?: string): string =>
  object('ExternalSecret', name, { secretStoreRef: { name: 'main' }, ...spec }, apiVersion)
const datum = (secretKey: string, remoteRef: object, more = {}): object => ({ secretKey, remoteRef, ...more })

describe('data', () => {
  it('becomes files: key, version, property and decodingStrategy mean the same', async () => {
    const { files, notes } = await converted(
      AWS +
        external({
          data: [
            datum('plain', { key: 'a' }),
            datum('member', {
              key: 'a',
              property: 'x.0.y',
              conversionStrategy: 'Default',
              metadataPolicy: 'None',
            }),
            datum('stage', { key: 'a', version: 'AWSPREVIOUS', decodingStrategy: 'None' }),
            datum('id', { key: 'a', version: 'uuid/6f1c', decodingStrategy: 'Base64URL' }),
            datum('tls.crt', { key: 'a', property: 'tls\\.crt', decodingStrategy: 'Base64' }),
          ],
        }),
    )
    expect(notes).toEqual([])
    expect(files['db']).toEqual([
      { path: 'plain', store: 'shop-main', key: 'a' },
      { path: 'member', store: 'shop-main', key: 'a', property: 'x.0.y' },
      { path: 'stage', store: 'shop-main', key: 'a', version: 'AWSPREVIOUS' },
      { path: 'id', store: 'shop-main', key: 'a', version: 'uuid/6f1c', decode: 'base64url' },
      { path: 'tls.crt', store: 'shop-main', key: 'a', property: 'tls\\.crt', decode: 'base64' },
    ])
  })

  it('of one name twice is the last one, as the operator has it', async () => {
    const { files } = await converted(
      AWS + external({ data: [datum('a', { key: 'first' }), datum('a', { key: 'second' })] }),
    )
    expect(files['db']).toEqual([{ path: 'a', store: 'shop-main', key: 'second' }])
  })

  it.each([
    ['remoteRef.decodingStrategy', { key: 'a', decodingStrategy: 'Auto' }],
    ['remoteRef.metadataPolicy', { key: 'a', metadataPolicy: 'Fetch' }],
    ['remoteRef.property', { key: 'a', property: 'users.#(name=="x").id' }],
    ['remoteRef.property', { key: 'a', property: 'a*' }],
    ['remoteRef.property', { key: 'a', property: '@this' }],
    ['remoteRef.key', { key: '../up' }],
    ['remoteRef.key', { key: 'a*' }],
    ['remoteRef.version', { key: 'a', version: '../x' }],
  ])('that cannot be had byte for byte is left out and listed: %s %o', async (field, ref) => {
    const { files, notes } = await converted(
      AWS + external({ data: [datum('x', ref), datum('y', { key: 'b' })] }),
    )
    expect(files['db']).toEqual([{ path: 'y', store: 'shop-main', key: 'b' }])
    expect(notes).toEqual([expect.stringContaining(`lost spec.data[0].${field}: `)])
  })

  it('lists a field that the converter has never heard of, and one of a wrong type', async () => {
    const { notes } = await converted(
      AWS + external({ data: [datum('a', { key: 'a', brandNew: { x: 1 } })], later: true, target: ['x'] }),
    )
    expect(notes).toEqual([
      expect.stringContaining('lost spec.data[0].remoteRef.brandNew: this field is not known'),
      expect.stringContaining('lost spec.later: this field is not known'),
      expect.stringContaining('lost spec.target: this is not a mapping'),
    ])
  })
})

describe('a gjson property', () => {
  it.each([
    ['a', true],
    ['a.b.0', true],
    ['a\\.b', true],
    ['user@host', true],
    ['a\\*b', true],
    ['a.#', false],
    ['a.*', false],
    ['a?', false],
    ['a|b', false],
    ['a.@reverse', false],
    ['!x', false],
    ['{a,b}', false],
  ])('%s is a path of names and positions: %s', (property, plain) => {
    expect(isPlainProperty(property)).toBe(plain)
  })
})

describe('dataFrom', () => {
  it('extract becomes expand, with property and version, and the old form of v1alpha1 too', async () => {
    const { files, notes } = await converted(
      AWS +
        external({ dataFrom: [{ extract: { key: 'a', property: 'in', version: 'AWSPREVIOUS' } }] }) +
        external({ dataFrom: [{ key: 'b' }] }, 'old', 'external-secrets.io/v1alpha1'),
    )
    expect(notes).toEqual([])
    expect(files).toEqual({
      db: [{ store: 'shop-main', version: 'AWSPREVIOUS', property: 'in', expand: { key: 'a' } }],
      old: [{ store: 'shop-main', expand: { key: 'b' } }],
    })
  })

  it('rewrite of literal names becomes rename; any other leaves the entry out', async () => {
    const rewrite = (source: string, target: string) => [{ regexp: { source, target } }]
    const { files, notes } = await converted(
      AWS +
        external({
          dataFrom: [
            {
              extract: { key: 'a' },
              rewrite: [...rewrite('^cert$', 'tls.crt'), ...rewrite('^key$', 'tls.key')],
            },
            { extract: { key: 'b' }, rewrite: rewrite('(.*)', 'p-$1') },
            { extract: { key: 'c' }, rewrite: [{ transform: { template: '{{ .value | upper }}' } }] },
            { extract: { key: 'd' }, rewrite: [{ merge: { into: 'x' } }] },
            { extract: { key: 'e' }, rewrite: rewrite('^a$', '../x') },
            { extract: { key: 'f', decodingStrategy: 'Base64' } },
          ],
        }),
    )
    expect(files['db']).toEqual([
      { store: 'shop-main', expand: { key: 'a', rename: { cert: 'tls.crt', key: 'tls.key' } } },
    ])
    expect(notes.map((note) => note.split(':')[0])).toEqual([
      'lost spec.dataFrom[1].rewrite',
      'lost spec.dataFrom[2].rewrite',
      'lost spec.dataFrom[3].rewrite',
      'lost spec.dataFrom[4].rewrite',
      'lost spec.dataFrom[5].extract.decodingStrategy',
    ])
  })

  it('find and generators are listed; a storeRef of its own is carried', async () => {
    const { files, notes } = await converted(
      AWS +
        object('ClusterSecretStore', 'other', { provider: { gcpsm: { projectID: 'p' } } }) +
        external({
          dataFrom: [
            { find: { name: { regexp: '.*' } } },
            { sourceRef: { generatorRef: { kind: 'Password', name: 'x' } } },
            {
              extract: { key: 'doc' },
              sourceRef: { storeRef: { kind: 'ClusterSecretStore', name: 'other' } },
            },
          ],
        }),
    )
    expect(files['db']).toEqual([{ store: 'other', expand: { key: 'doc' } }])
    expect(notes.filter((note) => note.startsWith('lost')).map((note) => note.split(':')[0])).toEqual([
      'lost spec.dataFrom[0].find',
      'lost spec.dataFrom[1].sourceRef.generatorRef',
    ])
  })

  it('beside other sources tells that names in common are refused, where the operator took the last', async () => {
    const { notes } = await converted(
      AWS + external({ data: [datum('a', { key: 'a' })], dataFrom: [{ extract: { key: 'b' } }] }),
    )
    expect(notes).toEqual([expect.stringContaining('changed spec.dataFrom: ')])
  })
})

describe('target.template', () => {
  const DATA = [
    datum('user', { key: 'db', property: 'u' }),
    datum('na-me', { key: 'n' }),
    datum('nil', { key: 'i' }),
  ]
  const templated = async (template: object, more: object = {}) =>
    converted(AWS + external({ data: DATA, target: { template: { data: template, ...more } } }))
  const template = async (text: string): Promise<unknown> => {
    const { files, notes } = await templated({ out: text })
    const [entry] = (files['db'] ?? []) as { template: string }[]
    return entry?.template ?? notes.filter((note) => note.startsWith('lost spec.target'))
  }

  it.each([
    ['{{ .user }}', '{{ user }}'],
    ['{{.user}}', '{{ user }}'],
    ['a\n  {{- .user -}}\n b', 'a\n  {{- user -}}\n b'],
    ['{{ index . "na-me" }}', '{{ ["na-me"] }}'],
    ['{{ .nil }}', '{{ ["nil"] }}'],
    ['{{ .user | b64enc }}', '{{ user | base64 }}'],
    ['{{ .user | b64dec }}', '{{ user_b64dec }}'],
    ['{{ .user | toString | trim | quote }}', '{{ user | strip | json }}'],
    ['{{ .user | squote }}', `{{ user | prepend: "'" | append: "'" }}`],
    ['{{ .user | default "x" | toJson }}', '{{ user | default: "x" | json }}'],
    ['{{ .user | toRawJson }}', '{{ user | json }}'],
    ['?p={{ .user | urlquery }}', '?p={{ user | url }}'],
    ['{% {{ .user }} %}', '{% raw %}{% {% endraw %}{{ user }} %}'],
    ['{ {{ .user }} }', '{ {{ user }} }'],
  ])('%s becomes %s', async (from, to) => {
    expect(await template(from)).toBe(to)
  })

  it.each([
    '{{ if .user }}x{{ end }}',
    '{{ range $k, $v := . }}{{ $k }}{{ end }}',
    '{{ .user | upper }}',
    '{{ .user | default "a\\"b" }}',
    '{{ .user | replace "a" "b" }}',
    '{{ printf "%s" .user }}',
    '{{ .missing }}',
    '{{ .user.name }}',
    '{{/* comment */}}',
    '{{ .user',
    '{% endraw %}{% {{ .user }}',
    '{{ (.user | fromJson).x }}',
    '{{ "{{" }}',
    '{{{ .user }}}',
  ])('%s is listed, and makes no file', async (text) => {
    expect(await template(text)).toEqual([expect.stringContaining('lost spec.target.template.data.out: ')])
  })

  it('takes the place of the values, or stands beside them with mergePolicy Merge', async () => {
    const replaced = await templated({ out: '{{ .user }}' })
    expect(replaced.files['db']).toEqual([
      {
        path: 'out',
        template: '{{ user }}',
        refs: [{ name: 'user', store: 'shop-main', key: 'db', property: 'u' }],
      },
    ])
    const merged = await templated({ out: '{{ .user }}', user: 'x{{ .user }}' }, { mergePolicy: 'Merge' })
    expect((merged.files['db'] as { path: string }[]).map(({ path }) => path)).toEqual([
      'na-me',
      'nil',
      'out',
      'user',
    ])
  })

  it('b64dec decodes the value it is fetched as', async () => {
    const { files } = await templated({ out: '{{ .user | b64dec }}{{ .user }}' })
    expect(files['db']).toMatchObject([
      {
        refs: [
          { name: 'user_b64dec', key: 'db', property: 'u', decode: 'base64' },
          { name: 'user', key: 'db' },
        ],
      },
    ])
  })

  it('names members of the only document that is extracted, and nothing where there are two', async () => {
    const extract = (...keys: string[]) =>
      converted(
        AWS +
          external({
            dataFrom: keys.map((key) => ({ extract: { key } })),
            target: { template: { data: { out: '{{ .user }}' } } },
          }),
      )
    expect((await extract('doc')).files['db']).toEqual([
      {
        path: 'out',
        template: '{{ user }}',
        refs: [{ name: 'user', store: 'shop-main', key: 'doc', property: 'user' }],
      },
    ])
    expect((await extract('doc', 'other')).notes.join()).toContain('not plain where it comes from')
  })

  it('without a value fetches one anyway, which is told', async () => {
    const { files, notes } = await templated({ out: 'constant' })
    expect(files['db']).toMatchObject([{ path: 'out', template: 'constant', refs: [{ name: 'user' }] }])
    expect(notes).toEqual([expect.stringContaining('changed spec.target.template.data.out')])
  })

  it('of engine v1, of ConfigMaps and with names that are templates is listed', async () => {
    const { notes } = await templated({ out: '{{ .user }}' }, { engineVersion: 'v1' })
    expect(notes.join()).toContain('lost spec.target.template.engineVersion')
    const from = await templated(
      { out: '{{ .user }}' },
      { templateFrom: [{ configMap: { name: 'x', items: [{ key: 'y' }] } }] },
    )
    expect(from.notes).toEqual([expect.stringContaining('lost spec.target.template.templateFrom')])
    const named = await templated({ '{{ .user }}': 'x', out: '{{ .user }}' })
    expect(named.notes.join()).toContain('the name of the file is itself a template')
  })

  it('T22 the text of a template that is listed is not written', async () => {
    const { notes } = await templated({ out: '{{ if .user }}canary{{ end }}' })
    expect(JSON.stringify(notes)).not.toContain('canary')
  })
})

describe('target and refresh', () => {
  it.each([
    ['changed', 'refreshInterval', { refreshInterval: '1h' }],
    ['lost', 'refreshInterval', { refreshInterval: '0' }],
    ['lost', 'refreshPolicy', { refreshPolicy: 'CreatedOnce' }],
    ['changed', 'target.creationPolicy', { target: { creationPolicy: 'Owner' } }],
    ['lost', 'target.creationPolicy', { target: { creationPolicy: 'Merge' } }],
    ['changed', 'target.deletionPolicy', { target: { deletionPolicy: 'Delete' } }],
    ['changed', 'target.immutable', { target: { immutable: true } }],
    ['changed', 'target.template.type', { target: { template: { type: 'kubernetes.io/tls' } } }],
    ['changed', 'target.template.metadata', { target: { template: { metadata: { labels: { a: 'b' } } } } }],
  ])('are listed as %s: %s', async (severity, field, spec) => {
    const { files, notes } = await converted(AWS + external({ data: [datum('a', { key: 'a' })], ...spec }))
    expect(files['db']).toHaveLength(1)
    expect(notes.map((note) => note.split(':')[0])).toEqual([`${severity} spec.${field}`])
  })
})

describe('deletionPolicy', () => {
  const made = async (target: object) => {
    const text =
      AWS + external({ target, data: [datum('a', { key: 'a' })], dataFrom: [{ extract: { key: 'b' } }] })
    const [one] = (await convertSources([{ file: 'in.yaml', text }], {})).classes
    return one
  }

  it('Retain keeps the files, Delete and Merge remove them and miss none; nothing leaves it to the nodes', async () => {
    expect(await made({ deletionPolicy: 'Retain' })).toMatchObject({ onRevoked: 'keep' })
    for (const deletionPolicy of ['Delete', 'Merge'])
      expect(await made({ deletionPolicy })).toMatchObject({
        onRevoked: 'remove',
        entries: [
          { expand: { key: 'b' }, optional: 'true' },
          { path: 'a', optional: 'true' },
        ],
      })
    expect(await made({})).not.toHaveProperty('onRevoked')
  })
})

describe('stores', () => {
  const used = (provider: unknown, key = 'k') =>
    converted(store(provider) + external({ data: [datum('a', { key })] }))

  it('AWS: service, region, role, prefix', async () => {
    const role = 'arn:aws:iam::111122223333:role/x'
    const { stores, files, notes } = await used({
      aws: {
        service: 'ParameterStore',
        region: 'eu-west-1',
        role,
        externalID: 'ext',
        prefix: '/shop/',
        auth: { jwt: { serviceAccountRef: { name: 'eso', audiences: ['sts.amazonaws.com'] } } },
      },
    })
    expect(stores['shop-main']).toEqual({
      backend: 'aws-parameter-store',
      settings: { region: 'eu-west-1', assumeRoleArn: role, assumeRoleExternalId: 'ext' },
      allow: [{ namespaces: ['shop'], keys: ['/shop/k'] }],
    })
    expect(files['db']).toEqual([{ path: 'a', store: 'shop-main', key: '/shop/k' }])
    expect(notes.every((note) => note.startsWith('changed spec.provider.aws.auth.jwt'))).toBe(true)
  })

  it.each([
    [
      'aws.auth.secretRef',
      {
        aws: {
          service: 'SecretsManager',
          region: 'eu-west-1',
          auth: { secretRef: { accessKeyIDSecretRef: { name: 'x', key: 'y' } } },
        },
      },
    ],
    [
      'aws.additionalRoles',
      { aws: { service: 'SecretsManager', region: 'eu-west-1', additionalRoles: ['a'] } },
    ],
    [
      'aws.sessionTags',
      { aws: { service: 'SecretsManager', region: 'eu-west-1', sessionTags: [{ key: 'a', value: 'b' }] } },
    ],
    [
      'azurekv.authSecretRef',
      {
        azurekv: {
          vaultUrl: 'https://v-1.vault.azure.net',
          tenantId: 't',
          authSecretRef: { clientId: { name: 'x', key: 'y' } },
        },
      },
    ],
    [
      'gcpsm.auth.secretRef',
      {
        gcpsm: { projectID: 'p', auth: { secretRef: { secretAccessKeySecretRef: { name: 'x', key: 'y' } } } },
      },
    ],
    [
      'vault.auth.tokenSecretRef',
      { vault: { server: 'https://v', auth: { tokenSecretRef: { name: 'x', key: 'y' } } } },
    ],
    [
      'vault.auth.appRole',
      {
        vault: {
          server: 'https://v',
          auth: { appRole: { path: 'approle', roleId: 'r', secretRef: { name: 'x' } } },
        },
      },
    ],
    [
      'vault.caBundle',
      { vault: { server: 'https://v', caBundle: 'UEVN', auth: { kubernetes: { role: 'r' } } } },
    ],
    [
      'vault.tls',
      {
        vault: {
          server: 'https://v',
          tls: { certSecretRef: { name: 'x' } },
          auth: { kubernetes: { role: 'r' } },
        },
      },
    ],
    [
      'vault.headers',
      {
        vault: {
          server: 'https://v',
          headers: { 'X-Key': 'not-to-be-printed' },
          auth: { kubernetes: { role: 'r' } },
        },
      },
    ],
  ])('what a store needs and cannot have is listed as lost: %s', async (field, provider) => {
    const { notes, files } = await used(provider)
    expect(files['db']).toHaveLength(1)
    expect(notes.filter((note) => note.startsWith('lost')).map((note) => note.split(':')[0])).toEqual([
      `lost spec.provider.${field}`,
    ])
    expect(JSON.stringify(notes)).not.toContain('not-to-be-printed')
  })

  it('Azure: vault and cloud of the address, secret/ in keys; keys and certificates are listed', async () => {
    const provider = {
      azurekv: { authType: 'WorkloadIdentity', vaultUrl: 'https://shop-1.vault.azure.cn/', tenantId: 't' },
    }
    const { stores, files, notes } = await converted(
      store(provider) +
        external({
          data: [datum('a', { key: 'secret/x' }), datum('b', { key: 'cert/y' }), datum('c', { key: 'z' })],
        }),
    )
    expect(stores['shop-main']).toMatchObject({
      settings: { vault: 'shop-1', tenant: 't', cloud: 'AzureChinaCloud' },
    })
    expect(files['db']).toEqual([
      { path: 'a', store: 'shop-main', key: 'x' },
      { path: 'c', store: 'shop-main', key: 'z' },
    ])
    expect(notes).toEqual([expect.stringContaining('lost spec.data[1].remoteRef.key')])
  })

  it("Azure: a managed identity is the node's, and told; a class cannot have it inline", async () => {
    const text =
      store({
        azurekv: {
          authType: 'ManagedIdentity',
          vaultUrl: 'https://shop-1.vault.azure.net',
          identityId: 'i-1',
        },
      }) + external({ data: [datum('a', { key: 'x' })] })
    const { stores, notes } = await converted(text)
    expect(stores['shop-main']).toMatchObject({
      identity: 'node',
      settings: { auth: { mode: 'managed-identity', clientId: 'i-1' } },
    })
    expect(notes).toEqual([expect.stringContaining('changed spec.provider.azurekv.authType')])
    const inline = await converted(text, { inlineStores: true })
    expect(inline.files).toEqual({})
    expect(inline.notes.join()).toContain('the identity of the node')
  })

  it("an address that is no vault of Azure's makes no store", async () => {
    const { files, notes } = await used({ azurekv: { vaultUrl: 'https://evil.example.org' } })
    expect(files).toEqual({})
    expect(notes.join()).toContain('lost spec.provider.azurekv.vaultUrl')
  })

  it('Google: project and location; latest enabled is listed', async () => {
    const { stores, notes } = await used({
      gcpsm: { projectID: 'p', location: 'europe-west3', getLatestEnabledSecret: true },
    })
    expect(stores['shop-main']).toMatchObject({ settings: { project: 'p', location: 'europe-west3' } })
    expect(notes).toEqual([expect.stringContaining('lost spec.provider.gcpsm.getLatestEnabledSecret')])
  })

  it('Vault: Kubernetes auth, namespace, and keys with mount and data/', async () => {
    const { stores, files } = await used(
      {
        vault: {
          server: 'https://v:8200',
          path: 'kv',
          namespace: 'team',
          auth: {
            kubernetes: {
              mountPath: 'k8s',
              role: 'r',
              serviceAccountRef: { name: 'eso', audiences: ['va'] },
            },
          },
        },
      },
      'shop/db',
    )
    expect(stores['shop-main']).toMatchObject({
      settings: { address: 'https://v:8200', namespace: 'team', role: 'r', authMount: 'k8s', audience: 'va' },
    })
    expect(files['db']).toEqual([{ path: 'a', store: 'shop-main', key: 'kv/data/shop/db' }])
  })

  it('Vault: JWT auth logs in below jwt unless a path is named', async () => {
    const { stores } = await used({
      vault: {
        server: 'https://v',
        auth: {
          jwt: {
            role: 'r',
            kubernetesServiceAccountToken: { serviceAccountRef: { name: 'x' }, audiences: ['a'] },
          },
        },
      },
    })
    expect(stores['shop-main']).toMatchObject({ settings: { role: 'r', authMount: 'jwt', audience: 'a' } })
  })

  it.each([
    ['shop/db', 'secret', 'v2', 'secret/data/shop/db'],
    ['secret/shop/db', 'secret', 'v2', 'secret/data/shop/db'],
    ['secret/data/shop/db', 'secret', 'v2', 'secret/data/shop/db'],
    ['shop/db', 'a/b', 'v2', 'a/b/data/shop/db'],
    ['shop/db', 'secret', 'v1', 'secret/shop/db'],
    ['secret/shop', undefined, 'v2', 'secret/data/shop'],
    ['secret/data/shop', undefined, 'v2', 'secret/data/shop'],
    ['secret/shop', undefined, 'v1', 'secret/shop'],
  ] as const)('Vault: %s below %s in %s is %s', (key, mount, version, path) => {
    expect(vaultPath(key, mount, version)).toBe(path)
  })

  it('of providers without a backend are listed, and so is what uses them', async () => {
    const { files, notes } = await used({ onepassword: { connectHost: 'https://x' } })
    expect(files).toEqual({})
    expect(notes).toEqual([
      expect.stringContaining('lost spec.provider.onepassword: Keyferry has no backend'),
      expect.stringContaining('nothing of it can be carried over'),
      expect.stringContaining('lost spec.secretStoreRef: SecretStore "main" cannot be carried over'),
    ])
  })

  it('that are not among the files are asked for', async () => {
    const { notes } = await converted(external({ data: [datum('a', { key: 'x' })] }))
    expect(notes.join()).toContain('SecretStore "main" is not among the files')
  })

  it('of another namespace are not found', async () => {
    const elsewhere = store({ gcpsm: { projectID: 'p' } }).replace('"shop"', '"other"')
    const { files, notes } = await converted(elsewhere + external({ data: [datum('a', { key: 'x' })] }))
    expect(files).toEqual({})
    expect(notes.join()).toContain('is not among the files')
  })
})

describe('rules of stores', () => {
  const cluster = (conditions?: unknown) =>
    object('ClusterSecretStore', 'main', {
      provider: { gcpsm: { projectID: 'p' } },
      ...(conditions !== undefined && { conditions }),
    })
  const uses = (namespace: string, key: string) =>
    external(
      { secretStoreRef: { name: 'main', kind: 'ClusterSecretStore' }, data: [datum('a', { key })] },
      key,
    ).replace('"shop"', `"${namespace}"`)

  it('T1 allow to each namespace exactly the keys that it names', async () => {
    const { stores } = await converted(cluster() + uses('a', 'one') + uses('b', 'two') + uses('a', 'three'))
    expect(stores['main']?.['allow']).toEqual([
      { namespaces: ['a'], keys: ['one', 'three'] },
      { namespaces: ['b'], keys: ['two'] },
    ])
  })

  it('T1 a namespace outside of the conditions gets no class; patterns and labels are listed', async () => {
    const named = await converted(cluster([{ namespaces: ['a'] }]) + uses('a', 'one') + uses('b', 'two'))
    expect(Object.keys(named.files)).toEqual(['one'])
    expect(named.notes.join()).toContain('is not for the namespace "b"')
    const open = await converted(cluster([{ namespaceRegexes: ['^(a+)+$'] }]) + uses('a', 'one'))
    expect(open.notes).toEqual([expect.stringContaining('changed spec.conditions[0].namespaceRegexes')])
    expect(open.stores['main']?.['allow']).toEqual([{ namespaces: ['a'], keys: ['one'] }])
  })

  it('a store that nothing uses is not written, and listed', async () => {
    const { stores, notes } = await converted(
      AWS +
        object('ClusterSecretStore', 'idle', { provider: { gcpsm: {} } }) +
        external({ data: [datum('a', { key: 'k' })] }),
    )
    expect(Object.keys(stores)).toEqual(['shop-main'])
    expect(notes).toEqual([expect.stringContaining('no class that is written uses the store')])
  })

  it('keys of a class that is not written are not allowed', async () => {
    const twice = external({ data: [datum('a', { key: 'second' })] })
    const { stores, notes } = await converted(
      AWS + external({ data: [datum('a', { key: 'first' })] }) + twice,
    )
    expect(stores['shop-main']?.['allow']).toEqual([{ namespaces: ['shop'], keys: ['first'] }])
    expect(notes).toEqual([expect.stringContaining('has the same name and namespace')])
  })
})

describe('ClusterExternalSecret', () => {
  it('becomes a class in each namespace that it names; what is wrong is told once', async () => {
    const { files, notes } = await converted(
      object('ClusterSecretStore', 'main', { provider: { gcpsm: { projectID: 'p' } } }) +
        object('ClusterExternalSecret', 'all', {
          externalSecretName: 'shared',
          namespaces: ['a', 'b'],
          namespaceSelectors: [{ matchLabels: { x: 'y' } }],
          externalSecretSpec: {
            refreshInterval: '1h',
            secretStoreRef: { name: 'main', kind: 'ClusterSecretStore' },
            data: [datum('a', { key: 'k' })],
          },
        }),
    )
    expect(files['shared']).toEqual([{ path: 'a', store: 'main', key: 'k' }])
    expect(notes.map((note) => note.split(':')[0])).toEqual([
      'lost spec.namespaceSelectors',
      'changed spec.externalSecretSpec.refreshInterval',
    ])
  })
})

describe('other kinds', () => {
  it('of the operator are listed, those of anybody else passed over', async () => {
    const { notes } = await converted(
      AWS +
        external({ data: [datum('a', { key: 'k' })] }) +
        object('PushSecret', 'p', {}, 'external-secrets.io/v1alpha1') +
        object('Password', 'g', {}, 'generators.external-secrets.io/v1alpha1') +
        object('TimeMachine', 't', {}) +
        object('Deployment', 'd', {}, 'apps/v1'),
    )
    expect(notes).toEqual([
      expect.stringContaining('it pushes nothing'),
      expect.stringContaining('there are no generators'),
      expect.stringContaining('this kind of object is not known'),
    ])
  })

  it('a class of provider keyferry is left where it is', async () => {
    const own = object(
      'SecretProviderClass',
      'own',
      { provider: 'keyferry', parameters: { files: 'x' } },
      'secrets-store.csi.x-k8s.io/v1',
    )
    const { files, notes } = await converted(own + AWS + external({ data: [datum('a', { key: 'k' })] }))
    expect(Object.keys(files)).toEqual(['db'])
    expect(notes).toEqual([expect.stringContaining('it is of provider keyferry already')])
  })

  it("a vendor's class with a fault is listed with the fault, and one with secretObjects or onRevoked keeps what it can", async () => {
    const spc = (name: string, spec: object) =>
      object('SecretProviderClass', name, spec, 'secrets-store.csi.x-k8s.io/v1')
    const { files, notes } = await converted(
      spc('broken', { provider: 'aws', parameters: { objects: '- objectName: a\n' } }) +
        spc('synced', {
          provider: 'vault',
          parameters: { roleName: 'r', objects: '- { objectName: a, secretPath: b, secretKey: c }\n' },
          secretObjects: [{ secretName: 'x' }],
        }),
    )
    expect(Object.keys(files)).toEqual(['synced'])
    expect(notes).toEqual([
      expect.stringContaining('lost spec.parameters.objects: the class has a fault: AWS_NO_TYPE'),
      expect.stringContaining('lost spec.secretObjects'),
    ])
    const sops = spc('s', { provider: 'sops', parameters: { sopsFile: 'shop/a.yaml', onRevoked: 'remove' } })
    expect((await convertSources([{ file: 'in.yaml', text: sops }], {})).classes).toMatchObject([
      { onRevoked: 'remove' },
    ])
  })
})

describe('kubernetes-external-secrets', () => {
  const kes = (spec: object): string => object('ExternalSecret', 'old', spec, 'kubernetes-client.io/v1')

  it('AWS: data, dataFrom, versions, binary values', async () => {
    const { files, stores, notes } = await converted(
      kes({
        backendType: 'secretsManager',
        region: 'eu-west-1',
        data: [
          { key: 'a', name: 'x', property: 'p.q' },
          { key: 'a', name: 'y', versionStage: 'AWSPREVIOUS' },
          { key: 'a', name: 'z', versionId: 'id1', isBinary: true },
        ],
        dataFrom: ['doc'],
      }),
    )
    const storeName = 'aws-secrets-manager-eu-west-1'
    expect(files['old']).toEqual([
      { store: storeName, expand: { key: 'doc' } },
      { path: 'x', store: storeName, key: 'a', property: 'p\\.q' },
      { path: 'y', store: storeName, key: 'a', version: 'AWSPREVIOUS' },
      { path: 'z', store: storeName, key: 'a', version: 'uuid/id1', decode: 'base64' },
    ])
    expect(stores[storeName]?.['allow']).toEqual([{ namespaces: ['shop'], keys: ['a', 'doc'] }])
    expect(notes).toEqual([expect.stringContaining('changed spec.dataFrom')])
  })

  it('Vault, Azure and Google: what was in the environment of the controller is asked for', async () => {
    const entry = { key: 'k', name: 'x', property: 'p' }
    for (const [spec, backend, lost] of [
      [
        { backendType: 'vault', vaultRole: 'r', vaultMountPoint: 'k8s', kvVersion: 2, data: [entry] },
        'vault',
        0,
      ],
      [{ backendType: 'vault', data: [entry] }, 'vault', 1],
      [{ backendType: 'azureKeyVault', keyVaultName: 'vault-1', data: [entry] }, 'azure-key-vault', 0],
      [{ backendType: 'gcpSecretsManager', data: [entry] }, 'gcp-secret-manager', 1],
    ] as const) {
      const { stores, notes, files } = await converted(kes(spec))
      expect(Object.values(stores)).toMatchObject([{ backend }])
      expect(files['old']).toHaveLength(1)
      expect(notes.filter((note) => note.startsWith('lost'))).toHaveLength(lost)
    }
  })

  it('lists paths of parameters, template data and unknown backends, and prints no value of them', async () => {
    const { notes } = await converted(
      kes({
        backendType: 'systemManager',
        data: [
          { path: '/a', recursive: true },
          { key: '/b', name: 'b' },
        ],
        template: { type: 'kubernetes.io/tls', stringData: { x: 'not-to-be-printed' } },
      }) + kes({ backendType: 'alicloudSecretsManager', data: [] }),
    )
    expect(notes.map((note) => note.split(':')[0])).toEqual([
      'lost spec.data[0].path',
      'changed spec.template.type',
      'lost spec.template.stringData',
      'lost spec.backendType',
    ])
    expect(JSON.stringify(notes)).not.toContain('not-to-be-printed')
  })
})
