/** The manifests that users apply: valid for the API server, no right that is not needed, our own configuration. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as admission from 'kubernetes-models/admissionregistration.k8s.io/v1'
import * as apps from 'kubernetes-models/apps/v1'
import * as networking from 'kubernetes-models/networking.k8s.io/v1'
import * as core from 'kubernetes-models/v1'
import { describe, expect, it } from 'vitest'
import { DEFAULT_SOCKET_DIRECTORIES, parseConfig } from '../../src/config.ts'
import { VERSION } from '../../src/version.ts'
import {
  configText,
  container,
  manifests,
  ofKind,
  only,
  ROOT,
  type Kind,
  type Manifest,
} from './manifests.ts'

const shipped = manifests('keyferry.yaml')
const policies = manifests('admission-policies.yaml')
const all = [...shipped, ...policies]

/** Kind → its validator and the module of its type. */
const MODELS: Readonly<
  Record<Kind, { readonly check: (data: never) => { validate(): void }; readonly from: string }>
> = {
  Namespace: { check: (data) => new core.Namespace(data), from: 'v1' },
  ServiceAccount: { check: (data) => new core.ServiceAccount(data), from: 'v1' },
  ConfigMap: { check: (data) => new core.ConfigMap(data), from: 'v1' },
  NetworkPolicy: { check: (data) => new networking.NetworkPolicy(data), from: 'networking.k8s.io/v1' },
  DaemonSet: { check: (data) => new apps.DaemonSet(data), from: 'apps/v1' },
  ValidatingAdmissionPolicy: {
    check: (data) => new admission.ValidatingAdmissionPolicy(data),
    from: 'admissionregistration.k8s.io/v1',
  },
  ValidatingAdmissionPolicyBinding: {
    check: (data) => new admission.ValidatingAdmissionPolicyBinding(data),
    from: 'admissionregistration.k8s.io/v1',
  },
}

/** What the compiler says about objects written as literals of their types: unknown fields are errors. */
function compileErrors(objects: readonly Manifest[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'keyferry-manifests-'))
  try {
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
    writeFileSync(join(folder, 'package.json'), '{"type": "module"}')
    const kinds = [...new Set(objects.map(({ kind }) => kind))]
    const imports = kinds.map(
      (kind) => `import type { I${kind} } from 'kubernetes-models/${MODELS[kind].from}'`,
    )
    const literals = objects.map(
      (object, index) => `export const m${index} = ${JSON.stringify(object)} satisfies I${object.kind}`,
    )
    writeFileSync(join(folder, 'manifests.ts'), [...imports, ...literals].join('\n'))
    const flags = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2024']
    const tsc = spawnSync(join(ROOT, 'node_modules/.bin/tsc'), [...flags, 'manifests.ts'], {
      cwd: folder,
      encoding: 'utf8',
    })
    return tsc.stdout + tsc.stderr
  } finally {
    rmSync(folder, { recursive: true })
  }
}

describe('the manifests', () => {
  it.each(all.map((object) => [object.kind, object.metadata.name, object] as const))(
    '%s %s is what the API server expects',
    (kind, _name, object) => {
      expect(() => MODELS[kind].check(object as never).validate()).not.toThrow()
    },
  )

  it('the validators refuse a field of the wrong type', () => {
    const broken = structuredClone(only(shipped, 'DaemonSet')) as { spec: { minReadySeconds: unknown } }
    broken.spec.minReadySeconds = 'five'
    expect(() => MODELS.DaemonSet.check(broken as never).validate()).toThrow(/minReadySeconds/)
  })

  it('no field is misspelt', () => {
    expect(compileErrors(all)).toBe('')
    const broken = structuredClone(only(shipped, 'DaemonSet')) as unknown as Manifest & {
      spec: { template: { spec: Record<string, unknown> } }
    }
    broken.spec.template.spec['tolerationz'] = []
    expect(compileErrors([broken])).toContain('tolerationz')
  })

  it('everything is in one namespace, and the image is of this version', () => {
    const namespace = only(shipped, 'Namespace').metadata?.name
    const elsewhere = shipped.filter(
      ({ kind, metadata }) => kind !== 'Namespace' && metadata.namespace !== namespace,
    )
    expect(elsewhere).toEqual([])
    expect(container(shipped).image).toBe(`keyferry:${VERSION}`)
  })
})

describe('T21 what the pod may do', () => {
  const pod = only(shipped, 'DaemonSet').spec?.template.spec

  it('T21 there is no right in the Kubernetes API at all, and no token to use one', () => {
    expect(
      all
        .map(({ kind }) => kind)
        .filter((kind) => /Role|Binding$/.test(kind) && !kind.startsWith('Validating')),
    ).toEqual([])
    expect(only(shipped, 'ServiceAccount').automountServiceAccountToken).toBe(false)
    expect(pod?.automountServiceAccountToken).toBe(false)
    expect(parseConfig('config.yaml', configText(shipped)).config.kubernetes).toBe('off')
  })

  it('T21 no privilege, no capability, no writable root, the default seccomp profile', () => {
    expect(container(shipped).securityContext).toEqual({
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
    expect(pod?.securityContext?.seccompProfile).toEqual({ type: 'RuntimeDefault' })
    expect(pod).toMatchObject({ containers: [{ name: 'keyferry' }] })
    for (const shared of [
      'hostNetwork',
      'hostPID',
      'hostIPC',
      'shareProcessNamespace',
      'initContainers',
    ] as const)
      expect(pod?.[shared], shared).toBeUndefined()
  })

  it('T21 of the node it sees the socket directories, and read-only the store and the identities', () => {
    const paths = new Map(
      pod?.volumes?.flatMap(({ name, hostPath }) => (hostPath ? [[name, hostPath.path] as const] : [])),
    )
    const mounts = container(shipped).volumeMounts?.map(({ name, mountPath, readOnly }) => [
      paths.get(name) ?? name,
      mountPath,
      readOnly ?? false,
    ])
    expect(mounts).toEqual([
      ['config', '/etc/keyferry', true],
      ['/var/run/secrets-store-csi-providers', '/var/run/secrets-store-csi-providers', false],
      ['/etc/kubernetes/secrets-store-csi-providers', '/etc/kubernetes/secrets-store-csi-providers', false],
      ['/var/lib/keyferry/store', '/var/lib/keyferry/store', true],
      ['/var/lib/keyferry/identities', '/var/lib/keyferry/identities', true],
    ])
    expect(pod?.volumes).toHaveLength(5)
    expect([...paths.values()]).toEqual(expect.arrayContaining([...DEFAULT_SOCKET_DIRECTORIES]))
  })

  it('T21 the network is open for probes and metrics only', () => {
    const policy = only(shipped, 'NetworkPolicy').spec
    expect(policy).toMatchObject({
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ ports: [{ port: 9090 }] }],
      egress: [],
    })
  })
})

describe('how the pod runs', () => {
  const { spec } = only(shipped, 'DaemonSet')
  const { config } = parseConfig('config.yaml', configText(shipped))

  it('driver 5 the new process binds before the old one ends, which has time to drain', () => {
    expect(spec?.updateStrategy).toEqual({
      type: 'RollingUpdate',
      rollingUpdate: { maxSurge: 1, maxUnavailable: 0 },
    })
    const grace = (spec?.template.spec?.terminationGracePeriodSeconds ?? 0) * 1000
    expect(grace).toBeGreaterThan(config.limits.drain + 5000)
    expect(config.limits.budget).toBeLessThan(120_000)
  })

  it('the probes ask the admin port that the configuration opens', () => {
    const port = Number(config.admin.address.split(':').at(-1))
    expect(container(shipped)).toMatchObject({
      ports: [{ name: 'admin', containerPort: port }],
      readinessProbe: { httpGet: { path: '/readyz', port: 'admin' } },
      livenessProbe: { httpGet: { path: '/healthz', port: 'admin' } },
    })
  })

  it('runs on every node before the pods that wait for it, in the measured memory', () => {
    expect(spec?.template.spec).toMatchObject({
      priorityClassName: 'system-node-critical',
      tolerations: [{ operator: 'Exists' }],
    })
    expect(container(shipped).resources).toEqual({
      requests: { cpu: '10m', memory: '64Mi' },
      limits: { memory: '192Mi' },
    })
    expect(container(shipped).env).toEqual([
      { name: 'MALLOC_ARENA_MAX', value: '1' },
      { name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
    ])
  })

  it('T28 the ConfigMap is a configuration, each line of it known', () => {
    expect(config.backends['sops']).toEqual({ roots: [{ path: '/var/lib/keyferry/store' }], identities: [] })
    expect(config.sockets.dialects).toEqual(['sops'])
  })
})

describe('the admission policies', () => {
  const expressions = new Map(
    ofKind(policies, 'ValidatingAdmissionPolicy').map(({ metadata, spec }) => [
      metadata?.name,
      spec?.validations?.map(({ expression }) => expression),
    ]),
  )

  it('T1 a pod may name its class and give no other attribute', () => {
    expect(expressions.get('keyferry-volume-attributes')).toEqual([
      "!has(object.spec.volumes) || object.spec.volumes.all(v, !has(v.csi) || v.csi.driver != 'secrets-store.csi.k8s.io' || !has(v.csi.volumeAttributes) || v.csi.volumeAttributes.all(k, k == 'secretProviderClass'))",
    ])
  })

  it('T8 a class may not ask for a Kubernetes Secret', () => {
    expect(expressions.get('keyferry-no-secret-objects')).toEqual([
      '!has(object.spec) || !has(object.spec.secretObjects) || size(object.spec.secretObjects) == 0',
    ])
  })

  it('T1 T8 every policy is bound, and those that protect refuse', () => {
    const bound = ofKind(policies, 'ValidatingAdmissionPolicyBinding').map(({ spec }) => [
      spec?.policyName,
      spec?.validationActions,
    ])
    expect(bound).toEqual([
      ['keyferry-volume-attributes', ['Deny']],
      ['keyferry-no-secret-objects', ['Deny']],
      ['keyferry-node-publish-secret', ['Warn', 'Audit']],
    ])
    expect(bound.map(([name]) => name)).toEqual([...expressions.keys()])
  })
})
