/** Owns the command line: argv → one command, imported when it is called. */
import { Argument, Command, CommanderError, Option } from 'commander'
import { LOG_LEVELS } from './telemetry/log.ts'
import { VERSION } from './version.ts'

/** 0 done · 1 the thing asked about failed · 2 wrong use or broken configuration. */
const WRONG_USE = 2
const FAILED = 1

const SHELLS = ['bash', 'zsh', 'fish']
const SCHEMAS = ['config', 'spc', 'files', 'stores']

const EXAMPLES = `
Try it on this machine, without a cluster:
  keyferry quickstart                      a store, a server, a pod's volume, in ten seconds
  keyferry mount -f spc.yaml --service-account web --identity my.agekey --target ./out
  keyferry lint spc.yaml                   every fault of a SecretProviderClass, before it is applied
  keyferry convert external-secrets.yaml   what other tools were told, as classes and stores of Keyferry
  keyferry secret --help                   write encrypted documents

Run it on a node:
  keyferry serve                           the process of the DaemonSet

Exit codes: 0 done, 1 it failed, 2 wrong use or broken configuration.`

const SERVE_HELP = `
The configuration file is looked at every two seconds and at SIGHUP: policy, stores, cache times and log.level are put
in force at once, the log names what else has changed and needs a restart. A broken file changes nothing.

Exit codes: 0 ended by SIGTERM or SIGINT, 1 it failed, 2 wrong use or broken configuration at the start.`

const MOUNT_HELP = `
The files are written by the same steps as on a node: the real server on a real socket, and a stand-in for the
driver that checks, writes and links them as the driver does. What a pod would find is printed, never the values.
A folder that an earlier run filled is published again, as in a running pod: with onRevoked: remove the files of
objects that were deleted or denied since then are taken away.

  keyferry mount -f spc.yaml --namespace shop --service-account web --target ./out
  keyferry mount -f spc.yaml --target ./out --token vault=./token.jwt --json

Exit codes: 0 every class was mounted, 1 one was not, 2 wrong use or broken configuration.`

const LINT_HELP = `
The classes are planned as the server plans them, without a store, a cluster or a network: every fault of every
class is told with its file, line and column. Parameters that a pod adds by volumeAttributes are not seen.

  keyferry lint spc.yaml                             one file
  keyferry lint examples/bad/*.yaml                  several; other kinds of objects in them are passed over
  helm template ./chart | keyferry lint -            what Helm or Kustomize renders
  keyferry lint --sarif k8s/*.yaml > lint.sarif      for a code host's annotations
  keyferry convert eso.yaml | keyferry lint -        with the stores of the ConfigMap keyferry in the stream
  keyferry lint --config node.yaml spc.yaml          with the adapters, sockets, stores and limits of your nodes
  keyferry lint --service-account web …              as a pod of that account: stores have rules by account

Exit codes: 0 no fault (there may be warnings), 1 faults, 2 wrong use or broken configuration.`

const SCHEMA_HELP = `
  config   the configuration file of a node
  spc      a SecretProviderClass, of every provider
  files    the YAML text of the parameter files of provider keyferry; stores: that of the parameter stores

  keyferry schema spc > spc.schema.json
  # yaml-language-server: $schema=./spc.schema.json       as the first line of a YAML file, for editors`

const CONVERT_HELP = `
Reads what other tools were told, and writes a SecretProviderClass of provider keyferry for each, and the stores that
they need, as the ConfigMap of the nodes. Known are ExternalSecret, ClusterExternalSecret, SecretStore and
ClusterSecretStore of External Secrets Operator, ExternalSecret of kubernetes-external-secrets, and
SecretProviderClasses of aws, azure, gcp, vault, openbao and sops. Other objects are passed over.

What cannot be carried over is listed on the standard error and in the head of the class, with the line, the reason
and what to do: lost is what is missing until somebody acts, changed what works in another way. Values are never
fetched, and of what is listed only names are printed.

  keyferry convert examples/eso/*.yaml > keyferry.yaml          classes and stores, for you to read
  keyferry convert examples/eso/*.yaml | keyferry lint -        and checked
  kubectl get externalsecrets,secretstores,clustersecretstores -A -o yaml | keyferry convert
  keyferry convert --strict -o out.yaml k8s/*.yaml              fails where something is lost
  keyferry convert --inline-stores spc-aws.yaml                 stores in the class; needs policy.inlineStores: allow
  keyferry convert --json k8s/*.yaml | jq .notCarried           the list as data

Exit codes: 0 converted, with a list if need be; 1 nothing could be, or with --strict something is lost; 2 wrong use or
a file that cannot be read.`

const COMPLETION_HELP = `
  source <(keyferry completion bash)       in ~/.bashrc
  source <(keyferry completion zsh)        in ~/.zshrc, after compinit
  keyferry completion fish | source        in ~/.config/fish/config.fish`

function list(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value]
}

function commas(value: string): string[] {
  return value
    .split(',')
    .map((one) => one.trim())
    .filter(Boolean)
}

async function program(): Promise<Command> {
  const root = new Command('keyferry')
    .description(
      'Secrets Store CSI Driver provider: secrets from any store into a pod, never through a Kubernetes Secret.',
    )
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show what can be done')
    .addHelpText('after', EXAMPLES)
    .showHelpAfterError("(see 'keyferry --help')")
    .exitOverride()

  root
    .command('serve')
    .description('answer the driver on its sockets until told to stop')
    .option('--config <file>', 'configuration file (default /etc/keyferry/config.yaml if it exists)')
    .option('--socket-dir <dir>', 'directory for the sockets; repeat for several', list)
    .option('--dialects <names>', 'socket names to serve, comma-separated (default: all)', commas)
    .option('--admin-address <host:port>', 'where to answer /healthz, /readyz and /metrics, or off')
    .addOption(new Option('--log-level <level>', 'how much to log').choices(LOG_LEVELS))
    .option('--takeover', 'replace a socket on which another provider answers')
    .addHelpText('after', SERVE_HELP)
    .action(async (flags) => (await import('./commands/serve.ts')).serve(flags))

  root
    .command('mount')
    .description('mount SecretProviderClass files into a directory, without a cluster')
    .requiredOption('-f, --file <file>', 'YAML file with SecretProviderClasses; repeat for several', list)
    .requiredOption('--target <dir>', 'where the files go; one folder for each class when there are several')
    .option('--namespace <name>', "the pod's namespace (default: the class's, else default)")
    .option('--service-account <name>', "the pod's service account", 'default')
    .option('--pod <name>', "the pod's name", 'keyferry-mount')
    .option('--volume-attribute <k=v>', "one of the pod's volumeAttributes; repeatable", list)
    .option('--token <audience=file>', 'a service-account token; repeatable', list)
    .option('--secret <k=v>', 'an entry of the nodePublishSecretRef Secret; repeatable', list)
    .option('--identity <file>', 'age or SSH identity that opens bound SOPS documents; repeatable', list)
    .option('--config <file>', 'configuration file, as for serve')
    .addOption(new Option('--log-level <level>', 'log to standard error').choices(LOG_LEVELS))
    .option('--json', 'print JSON')
    .option('--reveal', 'print the values too; on a terminal only')
    .addHelpText('after', MOUNT_HELP)
    .action(async (flags) => {
      const { mount } = await import('./commands/mount.ts')
      if (!(await mount(flags))) process.exitCode = FAILED
    })

  root
    .command('lint')
    .description('check SecretProviderClass files of every provider, offline')
    .argument('<file...>', 'YAML files; - is the standard input')
    .option('--config <file>', 'configuration file, as for serve')
    .option('--namespace <name>', "the pod's namespace (default: the class's, else default)")
    .option('--service-account <name>', "the pod's service account (default: default)")
    .option('--json', 'print JSON')
    .addOption(new Option('--sarif', 'print SARIF 2.1.0').conflicts(['json', 'quiet']))
    .option('--quiet', 'faults only; nothing where there is none')
    .addHelpText('after', LINT_HELP)
    .action(async (files, flags) => {
      const { lint } = await import('./commands/lint.ts')
      if (!(await lint(files, flags))) process.exitCode = FAILED
    })

  root
    .command('schema')
    .description('print a JSON Schema for editors')
    .addArgument(new Argument('<of>').choices(SCHEMAS))
    .addHelpText('after', SCHEMA_HELP)
    .action(async (name) => {
      const { schemaText } = await import('./commands/schema.ts')
      process.stdout.write(await schemaText(name))
    })

  root
    .command('convert')
    .description(
      "turn ExternalSecrets and vendors' classes into classes of provider keyferry and their stores",
    )
    .argument('[file...]', 'YAML or JSON files; - or none is the standard input')
    .option('-o, --output <file>', 'where to write; default the standard output')
    .option('--namespace <name>', 'namespace of objects that name none')
    .option('--inline-stores', 'write the stores into the classes, not into the configuration of the nodes')
    .option('--strict', 'fail where something is lost')
    .option('--json', 'print JSON: classes, configuration and the list')
    .addHelpText('after', CONVERT_HELP)
    .action(async (files, flags) => {
      const { convert } = await import('./commands/convert.ts')
      if (!(await convert(files, flags))) process.exitCode = FAILED
    })

  root
    .command('quickstart')
    .description('see it work on this machine: a store, a server, a pod and its volume')
    .action(async () => {
      const { quickstart } = await import('./commands/quickstart.ts')
      if (!(await quickstart())) process.exitCode = FAILED
    })

  // Its verbs are many: they are imported only when one is asked for.
  const verbs = ['secret', 'completion'].includes(process.argv[2] ?? '')
  const secret = verbs && (await import('./commands/secret.ts')).secretCommand()
  root.addCommand(secret || new Command('secret').summary('write encrypted secrets'))

  root
    .command('version')
    .description('print the version')
    .option('--json', 'as JSON, with the Node version')
    .action(({ json }: { json?: boolean }) => {
      const text = json ? JSON.stringify({ version: VERSION, node: process.versions.node }) : VERSION
      process.stdout.write(`${text}\n`)
    })

  root
    .command('completion')
    .description('print a completion script for your shell')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .addHelpText('after', COMPLETION_HELP)
    .action(async (shell) => {
      const { completionScript } = await import('./commands/completion.ts')
      process.stdout.write(completionScript(root, shell))
    })

  return root
}

// Whoever reads us may stop reading, e.g. `| head`: what has been started is still brought to its end.
process.stdout.on('error', () => {})

try {
  await (await program()).parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : WRONG_USE
  else if (error instanceof Error) {
    const expected = ['ConfigError', 'SocketError', 'UsageError'].includes(error.name)
    process.stderr.write(`keyferry: ${error.message}\n`)
    process.exitCode = expected ? WRONG_USE : 1
  } else throw error
}
