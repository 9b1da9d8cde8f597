/** Owns the shipped bundle: ES modules, split, so that a vendor's SDK is loaded when first used. */
import { rm, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import * as esbuild from 'esbuild'

const root = join(import.meta.dirname, '..')
const outdir = join(root, 'dist')

/** grpc-js and pino are CommonJS; they find these three in an ES module only through a banner. */
const banner = [
  "import { createRequire as __createRequire } from 'node:module'",
  "import { fileURLToPath as __fileURLToPath } from 'node:url'",
  "import { dirname as __pathDirname } from 'node:path'",
  'const require = __createRequire(import.meta.url)',
  'const __filename = __fileURLToPath(import.meta.url)',
  'const __dirname = __pathDirname(__filename)',
].join('\n')

/** grpc-js loads it only for channelz and ORCA, which we do not serve: it would bring protobufjs into every process. */
const withoutProtoLoader: esbuild.Plugin = {
  name: 'without-proto-loader',
  setup(build) {
    build.onResolve({ filter: /^@grpc\/proto-loader$/ }, ({ path }) => ({ path, namespace: 'absent' }))
    build.onLoad({ filter: /.*/, namespace: 'absent' }, () => ({
      contents:
        "exports.loadSync = () => { throw new Error('@grpc/proto-loader is not part of this bundle') }",
      loader: 'js',
    }))
  },
}

/**
 * An ES module's `import … from 'node:http'` reads every export of it, and some of those load Node's own
 * fetch: 24 ms at every start for something we never use. Taken as an object, nothing is read but what is
 * asked for.
 */
const httpWithoutFetch: esbuild.Plugin = {
  name: 'http-without-fetch',
  setup(build) {
    build.onResolve({ filter: /^(?:node:)?http$/ }, ({ kind }) =>
      kind === 'import-statement' ? { path: 'node:http', namespace: 'as-object' } : undefined,
    )
    build.onLoad({ filter: /.*/, namespace: 'as-object' }, () => ({
      contents: "module.exports = process.getBuiltinModule('node:http')",
      loader: 'js',
    }))
  },
}

await rm(outdir, { recursive: true, force: true })
const { metafile } = await esbuild.build({
  entryPoints: { cli: join(root, 'src/cli.ts'), adapter: join(root, 'src/providers/adapter.ts') },
  outdir,
  bundle: true,
  format: 'esm',
  splitting: true,
  platform: 'node',
  target: 'node24',
  mainFields: ['module', 'main'],
  conditions: ['module', 'import', 'node'],
  legalComments: 'external',
  // A process keeps the text of what it loaded: without indentation and comments 2.7 MiB less. Names stay, and
  // lines stay short enough to say where in a stack something is.
  minifyWhitespace: true,
  minifySyntax: true,
  lineLimit: 160,
  external: ['openpgp'],
  plugins: [withoutProtoLoader, httpWithoutFetch],
  chunkNames: 'chunks/[name]-[hash]',
  banner: { js: banner },
  logLevel: 'warning',
  metafile: true,
})

/** What each file was made of, and what it loads without being asked: for whoever audits the bundle. */
const contents = Object.entries(metafile.outputs).flatMap(([file, { inputs, imports }]) => {
  const loads = imports.filter(({ kind }) => kind === 'import-statement').map(({ path }) => named(path))
  return file.endsWith('.js') ? [[named(file), { from: Object.keys(inputs).map(source), loads }]] : []
})
await writeFile(join(outdir, 'contents.json'), `${JSON.stringify(Object.fromEntries(contents), null, 1)}\n`)

function named(path: string): string {
  return path.startsWith('node:') ? path : relative(outdir, join(process.cwd(), path))
}

/** Where a source stands in the repository, or which package it is of. */
function source(path: string): string {
  const inPackage = path.lastIndexOf('node_modules/')
  return inPackage === -1 ? relative(root, join(process.cwd(), path)) : path.slice(inPackage)
}
