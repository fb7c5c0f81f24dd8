// A service as a Node.js child: ipcd call -e 'fork:node greeter.js' Greeter.Hello name=Ada age:=36
const methods = {
  'Greeter.Hello': ({ name, age }) => `hello, ${name}` + (age === undefined ? '' : ` (${age})`)
}

process.on('message', ({ id, method, params }) => {
  const answer = { jsonrpc: '2.0', id }
  if (!(method in methods)) {
    answer.error = { code: -32601, message: `there is no method ${method}` }
  } else {
    try {
      answer.result = methods[method](Array.isArray(params) ? params[0] : params)
    } catch (err) {
      answer.error = { code: -32602, message: err.message }
    }
  }
  if (id !== undefined) process.send(answer)
})
