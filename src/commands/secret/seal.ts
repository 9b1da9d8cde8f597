/** Owns the verb `keyferry secret seal`. */
import { Option, type Command } from 'commander'
import { readCreationRule } from '../../providers/sops/store/creation-rules.ts'
import { documentVersion, SUFFIXES } from '../../providers/sops/store/directory.ts'
import { FORMATS, type Format } from '../../providers/sops/stores/store.ts'
import type { Encryption } from '../../providers/sops/write/encryption-rule.ts'
import { WriteError } from '../../providers/sops/write/error.ts'
import { sealNewDocument } from '../../providers/sops/write/new-document.ts'
import { secretProviderClass } from '../../providers/sops/write/secret-provider-class.ts'
import { readValues, type InputOptions } from './input.ts'
import { repeated, verb, withInput } from './options.ts'
import { runVerb, type CommonOptions } from './run.ts'

interface Options extends CommonOptions, InputOptions {
  readonly bind: readonly string[]
  readonly unbound: boolean
  readonly format: Format
  readonly age: readonly string[]
  readonly spc?: string
  readonly namespace?: string
}

const HELP = `
Prints an encrypted document, or with --spc a complete SecretProviderClass that carries it, ready for
kubectl apply and for Git. Needs public keys only: --age, or those of the store's .sops.yaml.

  keyferry secret seal --bind payments/api --spc api-secrets --age age1… \\
      --from-file db-password=./pw > api-secrets.yaml
  keyferry secret seal --bind payments/api --from-env-file ./db.env --format dotenv > db.env.sops
`

function namespaceOf({ bind, namespace }: Options): string {
  if (namespace !== undefined) return namespace
  const [first = '*', ...others] = [...new Set(bind.map((subject) => subject.split('/')[0]))]
  if (first !== '*' && others.length === 0) return first
  throw new WriteError(
    'usage',
    'the namespace of the SecretProviderClass does not follow from --bind',
    'Name it with --namespace.',
  )
}

async function encryptionFor({ age, root, format, spc }: Options, namespace: string): Promise<Encryption> {
  if (age.length === 0) return readCreationRule(root, `${namespace}/${spc ?? 'sealed'}${SUFFIXES[format]}`)
  return {
    recipients: [...new Set(age)],
    rule: { kind: 'unencrypted_suffix', text: '_unencrypted' },
    macOnlyEncrypted: false,
  }
}

async function seal(options: Options): Promise<void> {
  await runVerb('seal', options.spc ?? '', options, async () => {
    if ((options.bind.length === 0) !== options.unbound) {
      throw new WriteError(
        'usage',
        'exactly one of --bind and --unbound is needed',
        'Say who may mount it: --bind NAMESPACE/SERVICEACCOUNT.',
      )
    }
    const { format, spc, bind } = options
    const namespace = spc === undefined ? (bind[0]?.split('/')[0] ?? '') : namespaceOf(options)
    const encryption = await encryptionFor(options, namespace)
    const values = await readValues(options)
    try {
      const document = await sealNewDocument({
        format,
        values: values.map(({ key, bytes }) => ({ key, bytes: bytes.reveal() })),
        subjects: bind,
        encryption,
        now: new Date(),
      })
      const text =
        spc === undefined
          ? document.toString()
          : secretProviderClass({ name: spc, namespace, format, document })
      const version = documentVersion(document)
      return { version, json: { version, format, text }, lines: [text.replace(/\n$/, '')] }
    } finally {
      for (const { bytes } of values) bytes.wipe()
    }
  })
}

/** `keyferry secret seal` */
export function sealCommand(): Command {
  const command = verb('seal', 'print a secret encrypted, alone or in a SecretProviderClass')
    .addOption(repeated('--bind <namespace/serviceaccount>', 'who may mount it; may be repeated'))
    .option('--unbound', 'no binding: for identities that the operator maps to a namespace', false)
    .option('--spc <name>', 'print a SecretProviderClass of this name')
    .option('--namespace <namespace>', 'its namespace (default: that of --bind)')
    .addOption(repeated('--age <recipient>', "encrypt to this public key instead of the store's"))
    .addOption(new Option('--format <format>', 'format of the document').choices(FORMATS).default('yaml'))
  return withInput(command).addHelpText('after', HELP).action(seal)
}
