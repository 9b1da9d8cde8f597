/** Owns the `gcp` dialect: the parameter language of Google's own provider, and our few additions (docs/gcp.md). */
import type { Steps } from '../../formats/steps.ts'
import type { Dialect, FileOutput, Output, Plan, PlanRequest, Problem, Source } from '../adapter.ts'
import { PlanError } from '../adapter.ts'
import { readEntries } from './entries.ts'
import type { Entry } from './entries.ts'
import { base64Decoded, chained, jmesPath, jsonKey, yamlKey } from './extract.ts'
import type { GcpRef } from './resources.ts'
import { PARAMETER_MANAGER, SECRET_MANAGER } from './resources.ts'
import type { GcpStore } from './settings.ts'
import { DELEGATES_ANNOTATION, SERVICE_ACCOUNT_ANNOTATION } from './workload-identity.ts'

export const dialect: Dialect = {
  name: 'gcp',
  aliases: ['gke'],
  needs: {
    audiences: ['<project>.svc.id.goog'],
    annotations: [SERVICE_ACCOUNT_ANNOTATION, DELEGATES_ANNOTATION],
    nodePublishSecret: true,
  },
  parameters: ['secrets', 'auth'],
  plan: planSteps,
}

/** Whose credentials `auth` means. Empty leaves it to the backend: key.json where allowed, else the pod's own. */
const AUTH: ReadonlyMap<string, Pick<Source, 'identity'> & { readonly store: GcpStore }> = new Map([
  ['', { identity: 'pod', store: {} }],
  ['pod-adc', { identity: 'pod', store: { auth: 'pod-adc' } }],
  ['provider-adc', { identity: 'node', store: { auth: 'provider-adc' } }],
])

function* planSteps(request: PlanRequest): Steps<Plan> {
  const problems: Problem[] = []
  const { entries, warnings } = yield* readEntries(request.parameters.get('secrets'), problems)
  const wanted = request.parameters.get('auth') ?? ''
  const auth = AUTH.get(wanted)
  if (auth === undefined)
    problems.push({
      code: 'GCP_AUTH',
      message: `unknown auth configuration: ${JSON.stringify(wanted.slice(0, 60))}`,
      remedy: 'Use pod-adc or provider-adc, or leave auth out.',
      parameter: 'auth',
    })
  const outputs = entries.flatMap((entry) =>
    outputsOf(entry, { identity: 'pod', store: {}, ...auth }, request.defaultMode, problems),
  )
  conflicts(outputs, problems)
  if (problems.length > 0) throw new PlanError(problems)
  return { outputs, duplicates: 'last-wins', ...(warnings.length > 0 && { warnings }) }
}

/** The entry's own file or directory, then one file for each jmesPath. */
function outputsOf(
  entry: Entry,
  auth: Pick<Source, 'identity' | 'store'>,
  defaultMode: number,
  problems: Problem[],
): readonly Output[] {
  const { fields, resource, file } = entry
  const name = fields.resourceName
  const ref: GcpRef = { name, ...(fields.extractAll && { parts: 'top-level' as const }) }
  const backend = resource.kind === 'secret' ? SECRET_MANAGER : PARAMETER_MANAGER
  const base = {
    source: { ...auth, backend, ref },
    object: name,
    mode: entry.mode ?? defaultMode,
    ...(fields.optional && { optional: true }),
  }
  const fileOf = (path: string, select: FileOutput['select']): FileOutput => ({
    ...base,
    kind: 'file',
    path,
    versionId: name,
    ...(select !== undefined && { select }),
  })
  const decode = fields.decodeBase64 ? base64Decoded : undefined
  const own: readonly Output[] = fields.extractAll
    ? [{ ...base, kind: 'expand', into: file, versionId: () => name }]
    : file === ''
      ? []
      : [fileOf(file, chained(keyOf(fields), decode))]
  const picked = fields.jmesPath.flatMap(({ path, objectAlias }): readonly Output[] => {
    const select = jmesPath(path, fields)
    if (typeof select === 'function') return [fileOf(objectAlias, chained(select, decode))]
    problems.push({
      code: 'GCP_JMESPATH',
      message: `${entry.place} jmesPath "${path.slice(0, 100)}": ${select}`,
      remedy: 'See jmespath.org; a key with other characters than letters, digits and _ needs double quotes.',
      parameter: 'secrets',
      line: entry.line,
    })
    return []
  })
  return [...own, ...picked]
}

function keyOf(fields: Entry['fields']): FileOutput['select'] {
  if (fields.extractJSONKey !== '') return jsonKey(fields.extractJSONKey, fields)
  return fields.extractYAMLKey === '' ? undefined : yamlKey(fields.extractYAMLKey, fields)
}

/** A file that another file needs as its directory cannot be written (driver.md section 3). */
function conflicts(outputs: readonly Output[], problems: Problem[]): void {
  const files = new Map(
    outputs.flatMap((output) => (output.kind === 'file' ? [[output.path, output.object] as const] : [])),
  )
  for (const [path, object] of files)
    for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) {
      const other = files.get(path.slice(0, at))
      if (other === undefined) continue
      problems.push({
        code: 'GCP_PATH_CONFLICT',
        message: `"${other}" is the file "${path.slice(0, at)}", which "${object}" needs as a directory (invalid path)`,
        remedy: 'Give one of them another path.',
      })
    }
}
