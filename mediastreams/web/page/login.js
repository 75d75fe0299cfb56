// The token travels behind the #, which no browser sends: it fills the form and is gone from the address.
// So do the page's places, #ended or #call/3, to which one comes back when the login has run out.

const token = decodeURIComponent(location.hash.slice(1));
if (token.length >= 16 && !/^(call|recording)\//.test(token)) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token;
  document.forms[0].submit();
}
