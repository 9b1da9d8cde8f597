/**
 * Owns the measurement of how long the event loop was held, loaded before the bundle with `--import`.
 * A timer of one millisecond looks at the main thread's processor clock each time the loop comes round:
 * what was used in between was used without a turn for anybody else.
 */
const EVERY_MS = 1

let processor = 0
let wall = 0
let lastProcessor = threadMs()
let lastWall = performance.now()

function threadMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

function look(): void {
  const [nowProcessor, nowWall] = [threadMs(), performance.now()]
  processor = Math.max(processor, Math.min(nowProcessor - lastProcessor, nowWall - lastWall))
  wall = Math.max(wall, nowWall - lastWall)
  lastProcessor = nowProcessor
  lastWall = nowWall
}

setInterval(look, EVERY_MS).unref()

process.on('message', (message) => {
  if (message !== 'hold') return
  look()
  process.send?.({ processorMs: processor, wallMs: wall })
  processor = 0
  wall = 0
})
// The question must not keep a server running that has drained.
process.channel?.unref()
