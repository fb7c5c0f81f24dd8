// A worker over Node's own channel that answers in parts, as fast as its caller takes them. It offers Count.js.
const flows = new Map() // by token: what notes how many parts have been taken

function newFlow (token, window) {
  const sizes = []
  let taken = 0
  let unread = 0
  let wake = () => {}
  flows.set(token, (parts) => {
    while (taken < parts) unread -= sizes[taken++]
    wake()
  })
  return async (value) => {
    const size = Buffer.byteLength(JSON.stringify(value))
    while (unread > 0 && unread + size > window) await new Promise((resolve) => { wake = resolve })
    unread += size
    sizes.push(size)
    process.send({ jsonrpc: '2.0', method: '$/progress', params: { token, value } })
  }
}

process.on('message', async ({ id, method, params, parts, window }) => {
  if (method === '$/credit') flows.get(params.token)?.(params.parts)
  if (id === undefined || method === undefined) return
  const part = parts === undefined ? () => {} : newFlow(parts, window)
  for (let n = 0; n < params[0]; n++) await part(`${n} ä`.padEnd(100))
  flows.delete(parts)
  process.send({ jsonrpc: '2.0', id, result: params[0] })
})
process.send({ jsonrpc: '2.0', id: 1, method: 'Ipcd.Register', params: [{ methods: [{ method: 'Count.js', part: {} }], extensions: ['parts'] }] })
