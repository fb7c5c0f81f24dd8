// Prints what its parent sends and answers it: node parent.js child.js, or ipcd fork -- node child.js
process.on('message', (message) => {
  console.log('child got', JSON.stringify(message))
  process.send({ hello: 'parent' })
})
