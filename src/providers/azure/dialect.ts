/** Owns the `azure` dialect: the parameter language of Azure's own provider, and our few additions (docs/azure.md). */
import type { Steps } from '../../formats/steps.ts'
import { posix } from 'node:path'
import { JmesPathError } from '../../formats/jmespath.ts'
import {
  PlanError,
  type Dialect,
  type FileOutput,
  type Output,
  type Plan,
  type PlanRequest,
  type Problem,
  type Select,
  type Source,
} from '../adapter.ts'
import {
  BINDING_AUDIENCE,
  CLIENT_ID_ANNOTATION,
  EXCHANGE_AUDIENCE,
  TENANT_ANNOTATION,
} from './credentials.ts'
import { checkedObjects, type CheckedObject, type Report } from './objects.ts'
import { PARAMETERS, checkVaultName, spcSettings, type SpcSettings } from './parameters.ts'
import { encodedSelect, jmesSelect, pemSelect, type PemPart } from './select.ts'
import { KEY_VAULT, type AzureStore, type VaultFiles, type VaultRef } from './store.ts'

export const dialect: Dialect = {
  name: 'azure',
  runtimeName: 'secrets-store-csi-driver-provider-azure',
  parameters: [...PARAMETERS],
  needs: {
    audiences: [EXCHANGE_AUDIENCE, BINDING_AUDIENCE],
    annotations: [CLIENT_ID_ANNOTATION, TENANT_ANNOTATION],
    nodePublishSecret: true,
    nodePublishKeys: ['clientid', 'clientsecret'],
  },
  plan: planSteps,
}

function lineFeeds(text: string, end: number): number {
  let count = 0
  for (let at = text.indexOf('\n'); at !== -1 && at < end; at = text.indexOf('\n', at + 1)) count += 1
  return count
}

function* planSteps(request: PlanRequest): Steps<Plan> {
  const problems: Problem[] = []
  const warnings: string[] = []
  const given = request.parameters.get('objects') ?? ''
  const skipped = lineFeeds(given, given.length - given.trimStart().length)
  const report: Report = (code, message, remedy, line) => {
    const place = line === undefined ? {} : { parameter: 'objects', line: line + skipped }
    problems.push({ code, message, ...(remedy === undefined ? {} : { remedy }), ...place })
  }
  const warn = (warning: string): void => void warnings.push(warning)
  const settings = spcSettings(request, report, warn)
  const objects = yield* checkedObjects(
    given.trim(),
    { defaultMode: request.defaultMode, ...settings },
    report,
    warn,
  )
  if (objects.length > 0) checkVaultName(settings.vault, report)
  const outputs = objects.flatMap((object) => outputsOf(object, settings, report))
  if (problems.length > 0) throw new PlanError(problems)
  return { outputs, duplicates: 'last-wins', ...(warnings.length > 0 ? { warnings } : {}) }
}

/** The files of one object, in the vendor's order. */
function outputsOf(object: CheckedObject, settings: SpcSettings, report: Report): readonly Output[] {
  const isSecret = object.type === 'secret'
  const splits = isSecret && (settings.separateFiles || object.split === true)
  if (object.history !== undefined || (splits && typeof object.split !== 'object')) {
    return [manyFiles(object, settings, splits), ...fields(object, settings, report)]
  }
  if (typeof object.split === 'object') {
    return [...splitFiles(object, settings, object.split), ...fields(object, settings, report)]
  }
  const select = object.encoding === undefined ? undefined : encodedSelect(object.encoding)
  return [fileOf(object, settings, object.path, object.mode, select), ...fields(object, settings, report)]
}

function fileOf(
  object: CheckedObject,
  settings: SpcSettings,
  path: string,
  mode: number,
  select: Select | undefined,
): FileOutput {
  return {
    kind: 'file',
    source: sourceOf(object, settings),
    object: object.name,
    path,
    mode,
    versionId: `${object.type}/${object.name}`,
    ...(object.optional ? { optional: true } : {}),
    ...(select === undefined ? {} : { select }),
  }
}

/** Files whose number only the vault knows: versions, and the parts of what turns out to be a certificate. */
function manyFiles(object: CheckedObject, settings: SpcSettings, splits: boolean): Output {
  const { history, encoding, type, name } = object
  // Go joins the index to the path, which cleans it.
  const path = history === undefined ? object.path : posix.normalize(object.path).replace(/\/$/, '')
  const parent = posix.dirname(path)
  const files: VaultFiles = {
    ...(history === undefined ? { name: posix.basename(path) } : { history }),
    ...(splits ? { split: true } : {}),
    ...(encoding === undefined ? {} : { encoding }),
  }
  return {
    kind: 'expand',
    source: sourceOf(object, settings, files),
    object: name,
    mode: object.mode,
    into: history === undefined ? (parent === '.' ? '' : parent) : path,
    versionId: (part) =>
      history === undefined ? `${type}/${name}` : `${type}/${name}/${part.replace(/\.(?:crt|key)$/, '')}`,
    ...(object.optional ? { optional: true } : {}),
  }
}

const PARTS: readonly PemPart[] = ['certificate', 'key', 'chain']

function splitFiles(
  object: CheckedObject,
  settings: SpcSettings,
  names: Exclude<CheckedObject['split'], boolean>,
): readonly Output[] {
  return PARTS.filter((part) => names[part] !== '').map((part) =>
    fileOf(object, settings, names[part], object.mode, pemSelect(part)),
  )
}

/** A file for each `jmesPath` entry. */
function fields(object: CheckedObject, settings: SpcSettings, report: Report): readonly Output[] {
  return object.jmesPath.flatMap(({ path, objectAlias, filePermission }) => {
    const mode = /^[0-7]{1,4}$/.test(filePermission)
      ? Number.parseInt(filePermission, 8) & 0o777
      : object.mode
    try {
      const select = jmesSelect(path)
      const decode = object.encoding === undefined ? undefined : encodedSelect(object.encoding)
      const chosen: Select = decode === undefined ? select : (bytes) => select(decode(bytes))
      return [fileOf(object, settings, objectAlias, mode, chosen)]
    } catch (error) {
      if (!(error instanceof JmesPathError)) throw error
      report(
        'AZURE_JMES',
        `object "${object.name}", jmesPath "${path.slice(0, 100)}": ${error.message}`,
        'See jmespath.org for the grammar; keys with other characters than letters, digits and _ need double quotes.',
      )
      return []
    }
  })
}

function sourceOf(
  object: CheckedObject,
  { store, vault, constructChain }: SpcSettings,
  files?: VaultFiles,
): Source {
  const { type, name, version, pfx } = object
  const ref: VaultRef = {
    type,
    name,
    ...(version === undefined ? {} : { version }),
    ...(pfx ? { pfx } : {}),
    ...(type === 'secret' && !constructChain ? { bagOrder: true } : {}),
    ...(files === undefined ? {} : { files }),
  }
  const settings: AzureStore = { ...store, vault: object.vault ?? vault }
  const identity = store.auth?.mode === 'managed-identity' ? 'node' : 'pod'
  return { backend: KEY_VAULT, store: settings, identity, ref }
}
