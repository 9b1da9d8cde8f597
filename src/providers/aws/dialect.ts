/** Owns the `aws` dialect: the parameter language of AWS's own provider, and our few additions (docs/aws.md). */
import type { Steps } from '../../formats/steps.ts'
import type { Dialect, Output, Plan, PlanRequest, Problem, Source } from '../adapter.ts'
import { PlanError } from '../adapter.ts'
import { POD_IDENTITY_AUDIENCE, ROLE_ANNOTATION, STS_AUDIENCE } from './credentials.ts'
import { filePath, splitSelector } from './names.ts'
import type { CheckedObject, Descriptor, JmesEntry, Report } from './objects.ts'
import { checkedObjects } from './objects.ts'
import type { ParameterRef } from './parameter-store.ts'
import { PARAMETER_STORE } from './parameter-store.ts'
import type { SpcSettings } from './parameters.ts'
import { PARAMETERS, spcSettings } from './parameters.ts'
import type { SecretRef } from './secrets-manager.ts'
import { SECRETS_MANAGER } from './secrets-manager.ts'
import { base64Decoded, chained, jmesSelect } from './select.ts'

export const dialect: Dialect = {
  name: 'aws',
  runtimeName: 'secrets-store-csi-driver-provider-aws',
  needs: {
    audiences: [STS_AUDIENCE, POD_IDENTITY_AUDIENCE],
    annotations: [ROLE_ANNOTATION],
    nodeLabels: ['topology.kubernetes.io/region'],
  },
  parameters: PARAMETERS,
  plan: planSteps,
}

function* planSteps(request: PlanRequest): Steps<Plan> {
  const problems: Problem[] = []
  const report: Report = (code, message, remedy) => {
    problems.push({ code, message, ...(remedy === undefined ? {} : { remedy }) })
  }
  const settings = spcSettings(request.parameters, report)
  const objects = yield* checkedObjects(
    request.parameters.get('objects') ?? '',
    {
      region: settings.store.region,
      failoverRegion: settings.store.failoverRegion,
      translation: settings.translation,
      defaultMode: request.defaultMode,
    },
    problems,
  )
  const outputs: Output[] = []
  for (const object of objects) {
    outputs.push(...outputsOf(object, settings, problems))
    yield
  }
  conflicts(outputs, report)
  if (problems.length > 0) throw new PlanError(problems)
  return { outputs, duplicates: 'last-wins' }
}

/** The object's own file, then one for each jmesPath entry: the order in which the last one wins. */
function outputsOf(object: CheckedObject, settings: SpcSettings, problems: Problem[]): readonly Output[] {
  const { descriptor, mode, path } = object
  const source = sourceOf(object, settings)
  const decode = descriptor.objectEncoding === 'base64' ? base64Decoded : undefined
  const name = descriptor.objectName
  return [
    { kind: 'file', source, object: name, mode, path, ...(decode === undefined ? {} : { select: decode }) },
    ...descriptor.jmesPath.flatMap((entry): Output[] => {
      const entryMode = entry.filePermission === '' ? mode : Number.parseInt(entry.filePermission, 8) & 0o777
      const base = { object: name, mode: entryMode }
      const alias = filePath(entry.objectAlias, settings.translation)
      if (entry.path === '*') return [{ ...base, kind: 'expand', source: expanded(source), into: alias }]
      const select = compiled(entry, object, settings, problems)
      if (select === undefined) return []
      const fieldDecode = entry.objectEncoding === 'base64' ? base64Decoded : undefined
      return [{ ...base, kind: 'file', source, path: alias, select: chained(decode, select, fieldDecode) }]
    }),
  ]
}

function compiled(entry: JmesEntry, object: CheckedObject, settings: SpcSettings, problems: Problem[]) {
  const result = jmesSelect(entry, { strict: settings.strictJmesPath })
  if (typeof result === 'function') return result
  problems.push({
    ...result,
    message: `object "${object.descriptor.objectName.slice(0, 200)}", jmesPath "${entry.path.slice(0, 100)}" (${entry.objectAlias.slice(0, 100)}): ${result.message}`,
    parameter: 'objects',
    line: object.line,
  })
  return undefined
}

function sourceOf(object: CheckedObject, settings: SpcSettings): Source {
  const secret = object.type === 'secretsmanager'
  return {
    backend: secret ? SECRETS_MANAGER : PARAMETER_STORE,
    store: settings.store,
    identity: 'pod',
    ref: secret ? secretRef(object.descriptor, settings) : parameterRef(object.descriptor, settings),
  }
}

/** The same object, asked to come as one part for each top-level key. */
function expanded(source: Source): Source {
  return { ...source, ref: { ...(source.ref as SecretRef | ParameterRef), expand: 'json' } }
}

type Names = Pick<Descriptor, 'objectName' | 'objectVersion' | 'objectVersionLabel'>

/** What stands in `failoverObject`, else what stands in the object itself. */
function inFailoverRegion(object: Descriptor): Names {
  const { failoverObject: failover } = object
  return {
    objectName: failover.objectName || object.objectName,
    objectVersion: failover.objectVersion || object.objectVersion,
    objectVersionLabel: failover.objectVersionLabel || object.objectVersionLabel,
  }
}

function secretQuery(names: Names) {
  return {
    id: names.objectName,
    ...(names.objectVersion === '' ? {} : { versionId: names.objectVersion }),
    ...(names.objectVersionLabel === '' ? {} : { stage: names.objectVersionLabel }),
  }
}

function secretRef(object: Descriptor, settings: SpcSettings): SecretRef {
  const own = secretQuery(object)
  return settings.store.failoverRegion === undefined
    ? own
    : { ...own, failover: secretQuery(inFailoverRegion(object)) }
}

function parameterQuery(names: Names) {
  const { name, selector } = splitSelector(names.objectName)
  const wanted = names.objectVersion || names.objectVersionLabel || selector
  return { name, ...(wanted === undefined ? {} : { selector: wanted }) }
}

function parameterRef(object: Descriptor, settings: SpcSettings): ParameterRef {
  const own = parameterQuery(object)
  return settings.store.failoverRegion === undefined
    ? own
    : { ...own, failover: parameterQuery(inFailoverRegion(object)) }
}

/** A file that another file needs as its directory cannot be written (driver.md section 3). */
function conflicts(outputs: readonly Output[], report: Report): void {
  const files = new Map(
    outputs.flatMap((output) => (output.kind === 'file' ? [[output.path, output.object] as const] : [])),
  )
  for (const [path, object] of files)
    for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) {
      const other = files.get(path.slice(0, at))
      if (other !== undefined)
        report(
          'AWS_PATH',
          `object "${other}" is the file "${path.slice(0, at)}", which object "${object}" needs as a directory`,
          'Give one of them another objectAlias.',
        )
    }
}
