/**
 * Owns the processor profile of a server under test, loaded before the bundle with `--import`: Keyferry
 * refuses Node's own flags for it, because they open the memory of a process with secrets to others.
 */
import { writeFileSync } from 'node:fs'
import { Session } from 'node:inspector'
import { join } from 'node:path'

const session = new Session()
session.connect()
session.post('Profiler.enable')
session.post('Profiler.start')

process.on('exit', () => {
  session.post('Profiler.stop', (error, result) => {
    if (error) return
    const file = join(process.env['KEYFERRY_BENCH_PROFILES'] ?? '.', `${process.pid}.cpuprofile`)
    writeFileSync(file, JSON.stringify(result.profile))
  })
})
