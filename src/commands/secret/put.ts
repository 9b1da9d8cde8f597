/** Owns the verb `keyferry secret put`. */
import { Option, type Command } from 'commander'
import { readCreationRule } from '../../providers/sops/store/creation-rules.ts'
import {
  changeDocument,
  openStore,
  parseSecretName,
  type Changed,
} from '../../providers/sops/store/directory.ts'
import { requireKeyRing } from '../../providers/sops/store/identity-files.ts'
import { FORMATS, type Format } from '../../providers/sops/stores/store.ts'
import { WriteError } from '../../providers/sops/write/error.ts'
import { mergeIntoDocument } from '../../providers/sops/write/merge.ts'
import { sealNewDocument } from '../../providers/sops/write/new-document.ts'

import { readValues, type InputOptions, type InputValue } from './input.ts'
import { DEFAULT_IDENTITIES, repeated, verb, withIdentity, withInput } from './options.ts'
import { runVerb, type CommonOptions } from './run.ts'

interface Options extends CommonOptions, InputOptions {
  readonly bind: readonly string[]
  readonly unbound: boolean
  readonly format: Format
  readonly merge: boolean
  readonly expectVersion?: string
  readonly identity: readonly string[]
}

const HELP = `
Values come from standard input (key "value"), --from-file or --from-env-file, never from arguments:
arguments can be read by every process on the machine. Bytes are kept as they are; echo and most
editors add a line feed, which --trim-newline drops.

KEY is a top-level key, or a JSON Pointer for nested ones: /db/password.

  pass show db | keyferry secret put payments/db --bind payments/api --trim-newline
  keyferry secret put payments/db --bind payments/api --from-file password=./pw --from-env-file ./db.env
  keyferry secret put payments/db --merge --from-file /tls/key=./key.pem     # needs an identity
  keyferry secret put payments/db --bind payments/api --expect-version none  # only if it is new

--bind names who may mount it: NAMESPACE/SERVICEACCOUNT. It is stored encrypted in the document, so
that a copy in another namespace stays shut. --expect-version makes concurrent writers safe: one wins,
the others end with exit code 4.
`

function checkUse(options: Options): void {
  const fault = options.merge
    ? options.unbound
      ? '--merge and --unbound exclude each other'
      : undefined
    : (options.bind.length === 0) !== options.unbound
      ? 'exactly one of --bind and --unbound is needed'
      : undefined
  if (fault === undefined) return
  throw new WriteError(
    'usage',
    fault,
    'Say who may mount it: --bind NAMESPACE/SERVICEACCOUNT. --unbound leaves that to a per-namespace identity.',
  )
}

async function change(text: string, options: Options, values: readonly InputValue[]): Promise<Changed> {
  const store = openStore(options.root)
  const named = values.map(({ key, bytes }) => ({ key, bytes: bytes.reveal() }))
  const now = new Date()
  if (options.merge) {
    const ring = await requireKeyRing(options.identity, DEFAULT_IDENTITIES)
    return changeDocument(store, parseSecretName(text), {
      expect: options.expectVersion,
      change: (current = Buffer.alloc(0), { format }) =>
        mergeIntoDocument({ document: current, format, values: named, subjects: options.bind, ring, now }),
    })
  }
  return changeDocument(store, parseSecretName(text), {
    expect: options.expectVersion,
    format: options.format,
    change: async (_current, { relativePath }) => {
      const encryption = await readCreationRule(store.root, relativePath)
      return sealNewDocument({
        format: options.format,
        values: named,
        subjects: options.bind,
        encryption,
        now,
      })
    },
  })
}

async function put(text: string, options: Options): Promise<void> {
  await runVerb('put', text, options, async () => {
    checkUse(options)
    parseSecretName(text)
    const values = await readValues(options)
    try {
      const { document, version = '' } = await change(text, options, values)
      return {
        version,
        json: { name: text, version, format: document.format, file: document.relativePath },
        lines: [`${text} written, version ${version}`],
      }
    } finally {
      for (const { bytes } of values) bytes.wipe()
    }
  })
}

/** `keyferry secret put` */
export function putCommand(): Command {
  const command = verb('put', 'write a secret, or with --merge some keys of one')
    .argument('<namespace/name>')
    .addOption(repeated('--bind <namespace/serviceaccount>', 'who may mount it; may be repeated'))
    .option('--unbound', 'no binding: for identities that the operator maps to a namespace', false)
    .option('--merge', 'change only the given keys of an existing document', false)
    .option('--expect-version <version>', 'only if the document has this version; "none": only if it is new')
    .addOption(new Option('--format <format>', 'format of a new document').choices(FORMATS).default('yaml'))
  return withIdentity(withInput(command)).addHelpText('after', HELP).action(put)
}
